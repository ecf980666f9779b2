"""The numbers of the change report, as the views of the package's models/marts/report and the ledger have them."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from loader.contract.customers import customers_first
from loader.contract.tables import Table
from loader.database import Connection, statement
from loader.readers import marts
from loader.readers.published import PublishedMonth, published_months

WATCH, ALERT = 0.1, 0.25
"""PSI from which a distribution is said to have moved, and to have moved a lot."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MONTHS_IN_GRID = 12
AGES_SHOWN = 6
Json = dict[str, Any]


@dataclass(frozen=True)
class ColumnReport:
    """All that is said of one column: its profile in both months, how many rows changed, and the bins of both."""

    now: Json
    before: Json | None
    changes: Json | None
    bins: list[Json]
    psi: float | None = field(init=False)

    def __post_init__(self) -> None:
        index = psi([found["rows_before"] for found in self.bins], [found["rows_now"] for found in self.bins])
        object.__setattr__(self, "psi", index)

    @property
    def name(self) -> str:
        """table.column."""
        return f"{self.now['table_name']}.{self.now['column_name']}"

    @property
    def level(self) -> str:
        """How far the distribution has moved: alert, watch, calm; none where nothing can be compared."""
        if self.psi is None:
            return "none"
        return "alert" if self.psi >= ALERT else "watch" if self.psi >= WATCH else "calm"


@dataclass(frozen=True)
class Report:
    """The numbers of one month's page; rows as report_numbers.sql has them, each audit with a verdict per month."""

    month: PublishedMonth
    previous: PublishedMonth | None
    load: Json
    customers: list[Json]
    columns: list[ColumnReport]
    ages: list[Json]
    audit_months: list[str]
    audits: list[Json]
    warnings: list[Json]
    waivers: list[Json]
    trend: list[Json]

    @property
    def users(self) -> Json:
        """The customers, as the table counts them that has them."""
        return self.customers[0]

    @property
    def deliveries(self) -> list[dt.date]:
        """The newest deliveries that brought somebody's newest row, newest first."""
        return sorted({age["observed_as_of"] for age in self.ages}, reverse=True)[:AGES_SHOWN]

    def shown_ages(self, table_name: str) -> list[int]:
        """Customers of a table whose newest row came with each of `deliveries`, and with any older one."""
        ages = {age["observed_as_of"]: age["customers"] for age in self.ages if age["table_name"] == table_name}
        shown = [ages.get(date, 0) for date in self.deliveries]
        return [*shown, sum(ages.values()) - sum(shown)]

    @property
    def audits_to_look_at(self) -> list[Json]:
        """The audits that have not passed in every month shown."""
        return [audit for audit in self.audits if any(not v or v[0] != "pass" for v in audit["verdicts"])]

    def audits_that(self, status: str) -> list[Json]:
        """The audits with that verdict on this month."""
        return [audit for audit in self.audits if audit["verdicts"][-1] and audit["verdicts"][-1][0] == status]


def psi(before: Sequence[int], now: Sequence[int], floor: float = 0.0001) -> float | None:
    """The population stability index of two counts over the same bins; None where one month has no rows.

    PSI = sum over the bins of (now - before) * ln(now / before), each the bin's share of its month: the symmetrised
    Kullback-Leibler divergence, after S. Kullback and R. A. Leibler, On Information and Sufficiency, Annals of
    Mathematical Statistics 22 (1951), eq. 2.6; as an index with the thresholds 0.1 and 0.25 in N. Siddiqi, Credit Risk
    Scorecards (2006). An empty bin would make it infinite: it counts as a share of `floor`.
    """
    rows_before, rows_now = sum(before), sum(now)
    if not rows_before or not rows_now:
        return None
    shares = [(max(b / rows_before, floor), max(n / rows_now, floor)) for b, n in zip(before, now, strict=True)]
    return sum((n - b) * math.log(n / b) for b, n in shares)


def read_month(connection: Connection, month: PublishedMonth, tables: Sequence[Table]) -> Report:
    """The numbers of a published month, all as they are at one instant.

    Raises:
        SurroundingsFailed: a view of the report is not there.
    """
    with marts.needed(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        connection.execute("set local jit = off")
        connection.execute("set local work_mem = '64MB'")  # for joins and counts of all customers
        months = published_months(connection)
        shown = [other for other in months if other.as_of <= month.as_of][-MONTHS_IN_GRID:]
        names = [table.name for table in customers_first(tables)]
        customers = _rows(connection, "customers", month, tables=names)
        return Report(
            month,
            next((other for other in months if other.as_of == month.previous_as_of), None),
            _rows(connection, "load", month)[0],
            customers,
            _columns(connection, month, tables, customers),
            _rows(connection, "ages", month),
            [other.month for other in shown],
            _rows(connection, "audits", month, loads=[other.load_id for other in shown]),
            _rows(connection, "warnings", month),
            _rows(connection, "waivers", month),
            _trend(connection, month, tables),
        )


def read_index(connection: Connection, tables: Sequence[Table]) -> list[Json]:
    """The key numbers of every published month, newest first, from the ledger alone, whatever is archived."""
    months = published_months(connection)
    return _trend(connection, months[-1], tables)[::-1] if months else []


def _trend(connection: Connection, month: PublishedMonth, tables: Sequence[Table]) -> list[Json]:
    """Per published month up to this one, oldest first; customers are counted in the table that has them."""
    return _rows(connection, "trend", month, table=customers_first(tables)[0].name)


def _columns(
    connection: Connection, month: PublishedMonth, tables: Sequence[Table], customers: list[Json]
) -> list[ColumnReport]:
    """In the order of declaration."""
    changes = {row["table_name"]: _changes(row) for row in customers}
    found = [
        ColumnReport(**row, changes=changes[row["now"]["table_name"]].get(row["now"]["column_name"]))
        for row in _rows(connection, "columns", month)
    ]
    names = [f"{table.name}.{column}" for table in tables for column in table.column_names]
    return sorted((column for column in found if column.name in names), key=lambda column: names.index(column.name))


def _changes(table: Json) -> dict[str, Json]:
    """Column -> in how many rows its value changed; takes that out of what is said of the table's customers."""
    compared, changed = table.pop("compared_rows"), table.pop("changed_rows")
    if not compared:
        return {}
    return {name: {"compared_rows": compared, "changed_rows": rows} for name, rows in changed.items()}


def _rows(connection: Connection, name: str, month: PublishedMonth, **more: object) -> list[Json]:
    quantile = statement(__file__, "quantile")
    parts = {
        "is_previous": sql.SQL("= %(previous)s" if month.previous_as_of else "is null"),
        "quantiles": sql.SQL(", ").join(quantile.format(share=sql.Literal(share)) for share in QUANTILES),
    }
    values = {"as_of": month.as_of, "previous": month.previous_as_of, "load_id": month.load_id, **more}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement(__file__, name).format(**parts), values).fetchall()
