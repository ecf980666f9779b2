"""The numbers of the change report: of customers and rows, from the views in models/marts/report and the ledger."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import dict_row

from loader.contract.customers import customers_first
from loader.contract.tables import Table
from loader.database import Connection, statement
from loader.readers import marts
from loader.readers.published import PublishedMonth, published_months
from loader.readers.report_columns import ColumnReport, Json, read_columns

MONTHS_IN_GRID = 12
AGES_SHOWN = 6


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
        changes = {row["table_name"]: _changes(row) for row in customers}
        columns = [
            column
            for table in tables
            for column in read_columns(connection, table, month.as_of, month.previous_as_of, changes[table.name])
        ]
        return Report(
            month,
            next((other for other in months if other.as_of == month.previous_as_of), None),
            _rows(connection, "load", month)[0],
            customers,
            columns,
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


def _changes(table: Json) -> dict[str, Json]:
    """Column -> in how many rows its value changed; takes that out of what is said of the table's customers."""
    compared, changed = table.pop("compared_rows"), table.pop("changed_rows")
    if not compared:
        return {}
    return {name: {"compared_rows": compared, "changed_rows": rows} for name, rows in changed.items()}


def _rows(connection: Connection, name: str, month: PublishedMonth, **more: object) -> list[Json]:
    is_previous = sql.SQL("= %(previous)s" if month.previous_as_of else "is null")
    values = {"as_of": month.as_of, "previous": month.previous_as_of, "load_id": month.load_id, **more}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement(__file__, name).format(is_previous=is_previous), values).fetchall()
