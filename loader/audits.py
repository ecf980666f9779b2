"""Which rows a failed audit is about: the audit's own condition, asked of staging once more, with file and line."""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from psycopg import sql

from loader.contracts import Table
from loader.database import Connection
from loader.deliveries import CHUNK, Problem
from loader.ledger import AuditResult

BATCH = 5_000


def failed_rows(connection: Connection, audit: AuditResult, test: Any, table: Table, path: Path) -> Iterator[Problem]:
    """The rows that an audit found, in file order and in constant memory; one problem without a line where the audit is
    about the table as a whole.

    Args:
        test: dbt's node of the test; its name and arguments say what was asked.
    """
    name, arguments = test.test_metadata.name, dict(test.test_metadata.kwargs)
    about = about_rows(name, arguments, table)
    if about is None:
        yield Problem(path.name, _about_table(audit, test), column=audit.column_name, audit=audit.audit_name)
        return
    column, condition, reason = about
    lines = LineNumbers(path)
    query = sql.SQL(
        "select ordinal, {column}::text from"
        " (select *, row_number() over (order by ctid) as ordinal from {staging}) as model"
        " where {condition} order by ordinal"
    ).format(column=sql.Identifier(column), staging=sql.Identifier("staging", table.name), condition=condition)
    with connection.transaction(), connection.cursor("failed_rows") as cursor:
        cursor.itersize = BATCH
        cursor.execute(query)
        for ordinal, value in cursor:
            yield Problem(path.name, reason, lines.of(ordinal), column, value, audit.audit_name)


def about_rows(name: str, arguments: dict[str, Any], table: Table) -> tuple[str, sql.Composable, str] | None:
    """Column, condition and reason by which an audit's rows are found; None for an audit of the table as a whole.

    The expressions in `arguments` are the project's own SQL; values are quoted as literals.
    """
    column = str(arguments.get("column_name") or arguments.get("column_B") or table.primary_key).strip('"')
    found = _condition(name, arguments, column, table)
    if found is None:
        return None
    condition, reason = found
    if row_condition := arguments.get("row_condition"):
        condition = sql.SQL("({}) and ({})").format(condition, sql.SQL(row_condition))
    return column, condition, reason


def _condition(
    name: str, arguments: dict[str, Any], column: str, table: Table
) -> tuple[sql.Composable, str] | None:
    field = sql.Identifier("model", column)
    staging = sql.Identifier("staging", table.name)
    match name:
        case "expect_column_values_to_not_be_null" | "not_null":
            return sql.SQL("{} is null").format(field), "is empty"
        case "expect_column_values_to_be_unique" | "unique":
            query = sql.SQL("{0} in (select {1} from {2} group by {1} having count(*) > 1)")
            return query.format(field, sql.Identifier(column), staging), "is there more than once"
        case "expect_column_values_to_be_between":
            low, high = arguments.get("min_value"), arguments.get("max_value")
            bounds = [
                sql.SQL("{} {} {}").format(field, sql.SQL(operator), sql.Literal(bound))
                for operator, bound in (("<", low), (">", high))
                if bound is not None
            ]
            return sql.SQL(" or ").join(bounds), _outside(low, high)
        case "expect_column_values_to_be_in_set":
            values = [str(value) for value in arguments["value_set"]]
            query = sql.SQL("({0} = any ({1})) is not true").format(field, sql.Literal(values))
            return query, f"is none of {', '.join(values)}"
        case "expect_column_values_to_match_regex":
            query = sql.SQL("({} ~ {}) is not true").format(field, sql.Literal(arguments["regex"]))
            return query, f"does not have the form {arguments['regex']}"
        case "expect_column_pair_values_A_to_be_greater_than_B":
            operator = ">=" if arguments.get("or_equal") else ">"
            names = [sql.Identifier("model", arguments[key].strip('"')) for key in ("column_A", "column_B")]
            relation = "not after" if arguments.get("or_equal") else "before"
            return (
                sql.SQL("not ({} {} {})").format(names[0], sql.SQL(operator), names[1]),
                f"must be {relation} {arguments['column_A']}",
            )
        case "relationships":
            parent = table.references or ""
            query = sql.SQL("{0} is not null and not exists (select 1 from {1} as parent where {2} = {0})")
            return (
                query.format(field, sql.Identifier("staging", parent), sql.Identifier("parent", arguments["field"])),
                f"no such customer in {parent}.csv",
            )
        case "expression_is_true":
            return sql.SQL("not ({})").format(sql.SQL(arguments["expression"])), f"not so: {arguments['expression']}"
        case _:
            return None


def _outside(low: Any, high: Any) -> str:
    if low is None:
        return f"more than {high}"
    if high is None:
        return f"less than {low}"
    return f"not between {low} and {high}"


def _about_table(audit: AuditResult, test: Any) -> str:
    """What an audit of a whole table says, with its own number where that is a percentage."""
    match test.test_metadata.name:
        case "row_count_change_percent":
            return f"the number of rows is {audit.failures} % off the month before"
        case "null_percent":
            return f"up to {audit.failures} % of the values are missing in a column that should have them"
        case "columns_match_declaration":
            return f"{audit.failures} columns are not those that are declared"
        case _:
            return f"{test.description or audit.audit_name} ({audit.failures} found)"


class LineNumbers:
    """From a record's place in a CSV file (1 is the first after the header) to its line in an editor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: tuple[list[int], list[int]] | None = None

    def of(self, record: int) -> int:
        """The line on which the record begins."""
        if self._last is None:
            self._last = self._multi_line_records() if self._has_quotes() else ([], [])
        records, extra_lines = self._last
        before = bisect_right(records, record - 1)
        return record + 1 + (extra_lines[before - 1] if before else 0)

    def _has_quotes(self) -> bool:
        with self._path.open("rb") as stream:
            return any(b'"' in chunk for chunk in iter(lambda: stream.read(CHUNK), b""))

    def _multi_line_records(self) -> tuple[list[int], list[int]]:
        """The records that hold line ends, and how many further lines they and those before them take."""
        records: list[int] = []
        extra_lines: list[int] = []
        with self._path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            for record, _ in enumerate(reader):
                if reader.line_num - 1 - record > (extra_lines[-1] if extra_lines else 0):
                    records.append(record)
                    extra_lines.append(reader.line_num - 1 - record)
        return records, extra_lines
