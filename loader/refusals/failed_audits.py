"""Find the rows that a failed audit is about: run its SQL on each row alone, or look up the values that it returns."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from loader.contract.customers import customers_first
from loader.contract.tables import Table, load_contract
from loader.database import Connection, one_row, place_in_file, statement
from loader.delivery import Problem, TableFiles
from loader.delivery.causes import NO_KEY, SHOWN
from loader.delivery.records import LineNumbers
from loader.refusals.audit_reasons import of_double, of_row, of_table, remedy_of
from loader.refusals.audits import Audit, key_of

BATCH = 5_000
VALUE_FIELDS = ("unique_field", "from_field", "value_field")
"""What the tests of dbt and dbt_expectations call the tested column in their results."""

FORGOTTEN = "If it names a customer who was forgotten, have it emptied"

UNUSUAL = (
    psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError, psycopg.errors.QueryCanceled,
    psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex,
    psycopg.errors.TooManyColumns, psycopg.errors.TooManyArguments,
)  # fmt: skip
"""Errors of SQL that works on a whole table but, run on its rows one by one, fails or takes too long."""

LIMITS = "set local statement_timeout = '5min'; set local enable_nestloop = {}"
"""If the planner expects one unknown key and there are a million, a nested loop would scan all rows for each."""


def failed_rows(
    connection: Connection, audit: Audit, failures: int, table: Table, files: TableFiles, status: str = "fail"
) -> Iterator[Problem]:
    """Yield a problem for each row that a failed audit is about, in file order and in constant memory.

    A problem without a line is about the whole table or a column: the audit measures these, or its rows cannot all be
    found.

    Args:
        failures: the number that the audit returned.
        status: what this number means for the audit, `fail` or `warn`.
    """
    complete = False
    if audit.test == "null_percent":
        query = statement(__file__, "columns_with_nulls").format(
            audit=sql.SQL(audit.query), limit=sql.SQL(audit.limit[status])
        )
        for column, percent in connection.execute(query).fetchall():
            yield Problem(files.name, f"{percent} % of the values are missing", column=column, audit=audit.audit_name)
        return
    if audit.lists_rows and audit.relation in audit.compiled:
        with contextlib.suppress(*UNUSUAL), connection.transaction():
            search = _Search(connection, audit, table)
            by_row = not audit.others and search.goes_by_row()
            complete = yield from search.rows_alone(files) if by_row else search.rows_by_value(files)
    if not complete:
        reason, remedy = of_table(audit, failures)
        yield Problem(files.name, reason, column=audit.column_name, audit=audit.audit_name, remedy=remedy)


Found = Generator[Problem, None, bool]
"""Yields one problem per row; returns whether these are all that the audit found."""


class _Search:
    """The search for one audit's rows, within a transaction."""

    def __init__(self, connection: Connection, audit: Audit, table: Table) -> None:
        self.connection, self.audit, self.table = connection, audit, table
        self.columns = self._output(audit.relation)
        arguments = audit.arguments
        named = re.findall(r"\w+", str(arguments.get("expression", "")))
        shown = [str(name).strip('"') for name in (audit.column_name, arguments.get("column_B"), *named) if name]
        self.column = next((name for name in shown if name in self.columns), table.key[0])
        row = sql.SQL("select {}").format(_fields("r", self.columns))
        alone, twice = self._audit_on(row), self._audit_on(sql.SQL(" union all ").join([row, row]))
        passing = statement(__file__, "rows_that_pass_alone").format(
            row=row, staging=sql.SQL(audit.relation), audit_of_row=alone
        )
        self.parts: dict[str, sql.Composable] = {
            "table": sql.Identifier(audit.table_name),
            "staging": sql.SQL(audit.relation),
            "place": sql.SQL(place_in_file(connection, audit.relation)),
            "column": sql.Identifier("r", self.column),
            "shown": sql.Literal(SHOWN),
            "where": sql.SQL(audit.where or "true"),
            "audit": sql.SQL(audit.query),
            "audit_of_row": alone,
            "fails_alone": sql.SQL("true") if audit.others else sql.SQL("exists ({})").format(alone),
            "fails_twice": sql.SQL("true") if audit.others else sql.SQL("exists ({})").format(twice),
            "audit_of_the_rest": self._audit_on(passing),
        }

    def goes_by_row(self) -> bool:
        """Whether the rows that fail alone are the whole failure."""
        self.connection.execute(LIMITS.format("on"))
        with contextlib.suppress(*UNUSUAL), self.connection.transaction():
            return one_row(self.connection, statement(__file__, "audit_goes_by_row").format(**self.parts)) == (True,)
        return False

    def rows_alone(self, files: TableFiles) -> Found:
        """The rows that fail alone."""
        lines, reason, known = LineNumbers(files), of_row(self.audit), self._remedy()
        for place, value in self._rows("rows_that_fail_alone"):
            file, line = lines.of(place)
            remedy = NO_KEY if value is None and self.column in self.table.key else known
            yield Problem(file, reason, line, self.column, value, self.audit.audit_name, remedy)
        return True

    def rows_by_value(self, files: TableFiles) -> Found:
        """The rows with a value that the audit returns."""
        if not (names := self._names_of_values()):
            return False
        self.connection.execute(LIMITS.format("off"))
        lines, reason, remedy = LineNumbers(files), of_row(self.audit), self._remedy()
        values, named = 0, -1
        fields, columns = _fields("audit", list(names)), _fields("r", list(names.values()))
        for found in self._rows("rows_by_value", fields=fields, columns=columns):
            place, value, alone, number, first, rows, failures, named = found
            if self.audit.others and rows != failures:  # some rows with such a value pass
                return False
            values += number == (1 if alone else 2)
            (file, line), (first_file, first_line) = lines.of(place), lines.of(first)
            where = f"line {first_line}" if first_file == file else f"line {first_line} of {first_file}"
            why = reason if alone else of_double(self.audit, list(names.values()), number, where)
            yield Problem(file, why, line, self.column, value, self.audit.audit_name, remedy if alone else None)
        return values == named

    def _remedy(self) -> str | None:
        """What to do if the audit may be wrong and not the row, or the row may refer to somebody who was forgotten."""
        [owner, *_] = customers_first(load_contract())
        is_to_customers = self.audit.test == "relationships" and owner.name in self.audit.reads
        if not is_to_customers or self.column in self.table.customer:
            return remedy_of(self.audit)
        if not self.connection.execute("select 1 from ops.forgotten limit 1").fetchone():
            return None
        return FORGOTTEN + ("" if key_of(self.audit, self.table) else f", or waive {self.audit.audit_name}")

    def _rows(self, name: str, **parts: sql.Composable) -> Iterator[tuple[Any, ...]]:
        with self.connection.cursor("failed_rows") as cursor:
            cursor.itersize = BATCH
            yield from cursor.execute(statement(__file__, name).format(**self.parts, **parts))

    def _names_of_values(self) -> dict[str, str]:
        """Name of a value in the audit's result -> the table's column that holds it."""
        names = self._output(f"({self.audit.query}\n) as audit")
        for name in VALUE_FIELDS:
            if name in names and self.audit.column_name:
                return {name: self.column}
        return {name: name for name in names if name in self.columns}

    def _output(self, relation: str) -> list[str]:
        cursor = self.connection.execute(sql.SQL("select * from {} limit 0").format(sql.SQL(relation)))
        return [column.name for column in cursor.description or ()]

    def _audit_on(self, rows: sql.Composable) -> sql.Composed:
        """The audit's SQL, reading `rows` in place of its table."""
        table = sql.Identifier(self.audit.table_name)
        query = self.audit.query.replace(self.audit.relation, table.as_string())
        return statement(__file__, "audit_on_rows").format(table=table, rows=rows, audit=sql.SQL(query))


def _fields(relation: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(relation, name) for name in names)
