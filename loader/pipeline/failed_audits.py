"""Which rows a failed audit is about: the audit's own condition, asked of staging once more, with file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from psycopg import sql

from loader.contract.tables import Table
from loader.database.connect import Connection
from loader.database.engines import PLACE_IN_FILE, engine_of
from loader.delivery.deliveries import SHOWN, Problem
from loader.delivery.files import SourceFile
from loader.delivery.records import LineNumbers
from loader.pipeline.dbt import Audit
from loader.pipeline.ledger import AuditResult

BATCH = 5_000

ROWS = sql.SQL(
    "select ordinal, left({column}::text, {shown}), null, null"
    " from (select *, {place} as ordinal from {staging}) as model"
    " where {condition} order by ordinal"
)
"""The rows that meet a condition, by their place in the file."""

DOUBLED = sql.SQL(
    "select ordinal, value, number, first from (select ordinal, left({column}::text, {shown}) as value,"
    " row_number() over same as number, first_value(ordinal) over same as first"
    " from (select *, {place} as ordinal from {staging}) as model"
    " where {condition} window same as (partition by {column} order by ordinal)) as found"
    " where number > 1 order by ordinal"
)
"""The second and later rows of those with the same value, by their place in the file, and the place of the first."""


def failed_rows(
    connection: Connection, verdict: AuditResult, audit: Audit, table: Table, file: SourceFile
) -> Iterator[Problem]:
    """The rows that an audit found, in file order and in constant memory; one problem without a line where the audit is
    about the table as a whole.

    Args:
        audit: says what was asked.
    """
    about = about_rows(audit.test, audit.arguments, table)
    if about is None:
        yield Problem(file.name, _about_table(verdict, audit), column=verdict.column_name, audit=verdict.audit_name)
        return
    column, condition, reason = about
    query = DOUBLED if audit.test in UNIQUE else ROWS
    lines = LineNumbers(file)
    with connection.transaction(), connection.cursor("failed_rows") as cursor:
        cursor.itersize = BATCH
        cursor.execute(
            query.format(
                shown=sql.Literal(SHOWN),
                column=sql.Identifier("model", column),
                staging=sql.Identifier("staging", table.name),
                place=sql.SQL(PLACE_IN_FILE[engine_of(connection)]),
                condition=condition,
            )
        )
        for ordinal, value, number, first in cursor:
            why = reason if number is None else _again(number, lines.of(first), reason)
            yield Problem(file.name, why, lines.of(ordinal), column, value, verdict.audit_name)


def _again(number: int, first: int, reason: str) -> str:
    which = {2: "second row", 3: "third row"}.get(number, f"row {number}")
    return f"{which} {reason}, first on line {first}"


def about_rows(name: str, arguments: dict[str, Any], table: Table) -> tuple[str, sql.Composable, str] | None:
    """Column, condition and reason by which an audit's rows are found; None for an audit of the table as a whole.

    The expressions in `arguments` are the project's own SQL; values are quoted as literals.
    """
    if name not in CONDITIONS:
        return None
    column = str(arguments.get("column_name") or arguments.get("column_B") or table.primary_key).strip('"')
    condition, reason = CONDITIONS[name](column, arguments, table)
    if row_condition := arguments.get("row_condition"):
        condition = sql.SQL("({}) and ({})").format(condition, sql.SQL(row_condition))
    return column, condition, reason


Found = tuple[sql.Composable, str]


def _null(column: str, _arguments: dict[str, Any], _table: Table) -> Found:
    return sql.SQL("{} is null").format(_field(column)), "is empty"


def _doubled(column: str, _arguments: dict[str, Any], table: Table) -> Found:
    """All that have a value; which of them are doubled is asked by another query."""
    whose = "for this user" if column == table.primary_key else "with this value"
    return sql.SQL("{} is not null").format(_field(column)), whose


def _out_of_range(column: str, arguments: dict[str, Any], _table: Table) -> Found:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    bounds = [
        sql.SQL("{} {} {}").format(_field(column), sql.SQL(operator), sql.Literal(bound))
        for operator, bound in (("<", low), (">", high))
        if bound is not None
    ]
    return sql.SQL(" or ").join(bounds), _outside(low, high)


def _not_in_set(column: str, arguments: dict[str, Any], _table: Table) -> Found:
    values = [str(value) for value in arguments["value_set"]]
    found = sql.SQL("({} = any ({})) is not true").format(_field(column), sql.Literal(values))
    return found, f"is none of {', '.join(values)}"


def _without_form(column: str, arguments: dict[str, Any], _table: Table) -> Found:
    regex = arguments["regex"]
    found = sql.SQL("({} ~ {}) is not true").format(_field(column), sql.Literal(regex))
    return found, f"does not have the form {regex}"


def _after(column: str, arguments: dict[str, Any], _table: Table) -> Found:
    operator, relation = (">=", "after") if arguments.get("or_equal") else (">", "not before")
    other = arguments["column_A"].strip('"')
    return sql.SQL("not ({} {} {})").format(_field(other), sql.SQL(operator), _field(column)), f"is {relation} {other}"


def _orphan(column: str, arguments: dict[str, Any], table: Table) -> Found:
    query = sql.SQL("{0} is not null and not exists (select 1 from {1} as parent where {2} = {0})")
    parent = sql.Identifier("staging", table.references or table.name)
    found = query.format(_field(column), parent, sql.Identifier("parent", arguments["field"]))
    return found, f"no such customer in {table.references}.csv"


def _not_true(_column: str, arguments: dict[str, Any], _table: Table) -> Found:
    return sql.SQL("not ({})").format(sql.SQL(arguments["expression"])), f"not so: {arguments['expression']}"


def _field(column: str) -> sql.Identifier:
    return sql.Identifier("model", column)


CONDITIONS: dict[str, Callable[[str, dict[str, Any], Table], Found]] = {
    "expect_column_values_to_not_be_null": _null,
    "not_null": _null,
    "expect_column_values_to_be_unique": _doubled,
    "unique": _doubled,
    "expect_column_values_to_be_between": _out_of_range,
    "expect_column_values_to_be_in_set": _not_in_set,
    "expect_column_values_to_match_regex": _without_form,
    "expect_column_pair_values_A_to_be_greater_than_B": _after,
    "relationships": _orphan,
    "expression_is_true": _not_true,
}
"""Generic test -> the condition that its rows meet, and the reason in words."""

UNIQUE = {"expect_column_values_to_be_unique", "unique"}


def _outside(low: Any, high: Any) -> str:
    if low is None:
        return f"more than {high}"
    if high is None:
        return f"less than {low}"
    return f"not between {low} and {high}"


def _about_table(verdict: AuditResult, audit: Audit) -> str:
    """What an audit of a whole table says, with its own number where that is a percentage."""
    match audit.test:
        case "row_count_change_percent":
            return f"the number of rows is {verdict.failures} % off the month before"
        case "null_percent":
            return f"up to {verdict.failures} % of the values are missing in a column that should have them"
        case "columns_match_declaration":
            return f"{verdict.failures} columns are not those that are declared"
        case _:
            return f"{audit.description or verdict.audit_name} ({verdict.failures} found)"
