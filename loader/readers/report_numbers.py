"""The numbers of the change report on customers and rows, from history and the ledger."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import dict_row

from loader.contract.customers import customers_first
from loader.contract.tables import Table
from loader.database import Connection, Database, statement
from loader.errors import WrongUsage
from loader.readers import month_states
from loader.readers.lookups import about, columns_in_history
from loader.readers.published import PublishedMonth, find, is_comparable, published_months, undisturbed
from loader.readers.report_columns import ColumnReport, Json, read_columns

MONTHS_IN_GRID = 12
AGES_SHOWN = 6


@dataclass(frozen=True)
class Report:
    """The numbers of one month's page: rows as report_numbers.sql returns them, each audit with one verdict a month."""

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
        """The customer counts of the table that has the customers."""
        return self.customers[0]

    @property
    def deliveries(self) -> list[dt.date]:
        """Dates of the newest deliveries that brought some customer's newest row, newest first; at most AGES_SHOWN."""
        return sorted({age["observed_as_of"] for age in self.ages}, reverse=True)[:AGES_SHOWN]

    def shown_ages(self, table_name: str) -> list[int]:
        """How many customers of a table have their newest row from each of `deliveries`, and last, from older ones."""
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


def read_month(database: Database, month: str, tables: Sequence[Table]) -> Report:
    """The numbers of a published month, all read in one snapshot. Takes and raises what report.write_month says."""
    with database.connect() as connection, undisturbed(connection, tables):
        found, months = find(connection, month), published_months(connection)
        _require_comparable(found, months)
        status = next(one for one in month_states.months(connection) if one["as_of"] == found.as_of)
        shown = [other for other in months if other.as_of <= found.as_of][-MONTHS_IN_GRID:]
        tables = [table for table in tables if columns_in_history(connection, table)]  # one may be declared since
        counted = {table.name: _customers(connection, found, table) for table in customers_first(tables)}
        dates = found.as_of, found.previous_as_of
        return Report(
            found,
            next((other for other in months if other.as_of == found.previous_as_of), None),
            _rows(connection, statement(__file__, "load"), found)[0],
            [row for row, _ in counted.values()],
            [column for table in tables for column in read_columns(connection, table, *dates, counted[table.name][1])],
            [
                age
                for table in tables
                for age in _rows(connection, about(__file__, table, "ages"), found, table=table.name)
            ],
            [other.month for other in shown],
            _rows(connection, statement(__file__, "audits"), found, loads=[other.load_id for other in shown]),
            status["warnings"],
            status["waivers"],
            _trend(connection, found, tables),
        )


def _require_comparable(month: PublishedMonth, months: Sequence[PublishedMonth]) -> None:
    if not is_comparable(month, months):
        before = months[months.index(month) - 1]
        raise WrongUsage(
            f"month {month.month} has nothing to be compared with: {before.as_of}, the month before it, is archived"
            f" in {before.archived_in}. `streamflow archive --restore {before.as_of}` brings it back."
        )


def read_index(connection: Connection, tables: Sequence[Table]) -> list[Json]:
    """The key numbers of every published month, newest first; from the ledger alone, so archived months count too."""
    months = published_months(connection)
    return _trend(connection, months[-1], tables)[::-1] if months else []


def _trend(connection: Connection, month: PublishedMonth, tables: Sequence[Table]) -> list[Json]:
    """Numbers per published month up to this one, oldest first; customers are counted in the table that has them."""
    return _rows(connection, statement(__file__, "trend"), month, table=customers_first(tables)[0].name)


def _customers(connection: Connection, month: PublishedMonth, table: Table) -> tuple[Json, dict[str, Json]]:
    """How many customers of a table came, went and came back; and column -> in how many of the rows it changed."""
    columns = [name for name in columns_in_history(connection, table) if name not in table.key]
    changed = sql.SQL(", ").join(about(__file__, table, "changed", column=sql.Identifier(name)) for name in columns)
    [row] = _rows(connection, about(__file__, table, "customers", changed=changed), month, table=table.name)
    compared, counts = row.pop("compared_rows"), dict(zip(columns, row.pop("changed_rows"), strict=True))
    changes = {name: {"compared_rows": compared, "changed_rows": rows} for name, rows in counts.items() if compared}
    return row, changes


def _rows(connection: Connection, query: sql.SQL | sql.Composed, month: PublishedMonth, **more: object) -> list[Json]:
    values = {"as_of": month.as_of, "previous": month.previous_as_of, "load_id": month.load_id, **more}
    return connection.cursor(row_factory=dict_row).execute(query, values).fetchall()
