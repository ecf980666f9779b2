"""What history says: one customer over time, and the difference between two dates. Reads only."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from loader.contract.tables import Table, load_contract
from loader.database import Connection, statement
from loader.errors import WrongUsage
from loader.readers.published import published_months


@dataclass(frozen=True)
class State:
    """A customer's row in one table on one date; `changed` names the columns that differ from the date before."""

    as_of: dt.date
    observed_as_of: dt.date
    delivered: bool
    values: dict[str, Any]
    changed: list[str]


@dataclass(frozen=True)
class TableDifference:
    """How one table differs between two dates; a sample has the `key` and column -> [old, new] of what differs."""

    table: str
    first_rows: int
    second_rows: int
    only_first: int
    only_second: int
    equal: int
    different: int
    columns: dict[str, int]
    samples: list[dict[str, Any]]


def chosen(name: str | None) -> list[Table]:
    """The declared tables, or the one of that name.

    Raises:
        WrongUsage: no table of that name is declared.
    """
    tables = load_contract()
    if found := [table for table in tables if name in {None, table.name}]:
        return found
    raise WrongUsage(f"no table {name} is declared: it is one of {', '.join(table.name for table in tables)}.")


def customer(connection: Connection, user_id: str, tables: Sequence[Table]) -> dict[str, list[State]]:
    """Table -> the customer's rows in its history, oldest date first.

    Raises:
        WrongUsage: no history knows the customer; the message says what to do.
    """
    found = {table.name: _states(connection, user_id, table) for table in tables}
    if not any(found.values()):
        names = ", ".join(f"{table.name}_snapshots" for table in tables)
        raise WrongUsage(f"no customer {user_id!r} in {names}.{_hint(connection, user_id, tables[0])}")
    return found


def _states(connection: Connection, user_id: str, table: Table) -> list[State]:
    columns = _columns(connection, table)
    if not columns:
        return []
    query = _about(table, "states", columns=sql.SQL(", ").join(map(sql.Identifier, columns)))
    try:
        rows = connection.execute(query, {"user_id": user_id}).fetchall()
    except psycopg.DataError:  # text that cannot be a key of this type is nobody's
        return []
    states: list[State] = []
    for as_of, observed, *cells in rows:
        values = dict(zip(columns, cells, strict=True))
        before = states[-1].values if states else values
        changed = [name for name in columns if values[name] != before[name]]
        states.append(State(as_of, observed, observed == as_of, values, changed))
    return states


def _hint(connection: Connection, user_id: str, table: Table) -> str:
    """What to try next: the same letters in another case, or what there is to look at."""
    published = [month.month for month in published_months(connection)]
    if not published:
        return " No month is published yet: streamflow ingest 000"
    with contextlib.suppress(psycopg.DataError):
        near = connection.execute(_about(table, "near"), {"user_id": user_id.strip()}).fetchone()
        if near is not None:
            return f" Did you mean {near[0]}?"
    return f" Months published: {', '.join(published)}. Write the user_id as it is in the files."


def difference(
    connection: Connection, first: dt.date, second: dt.date, tables: Sequence[Table], rows: int
) -> list[TableDifference]:
    """How each table's history differs between two dates, counted by the database, with some rows of each."""
    with connection.transaction():  # all tables as they are at one instant
        connection.execute("set transaction isolation level repeatable read read only")
        return [_difference(connection, first, second, table, rows) for table in tables]


def _difference(connection: Connection, first: dt.date, second: dt.date, table: Table, rows: int) -> TableDifference:
    columns = _columns(connection, table)
    if not columns:
        return TableDifference(table.name, 0, 0, 0, 0, 0, 0, {}, [])
    columns.remove(table.primary_key)
    differ = [sql.SQL("a.{0} is distinct from b.{0}").format(sql.Identifier(name)) for name in columns]
    parts: dict[str, sql.Composable] = {
        "first": sql.Literal(first),
        "second": sql.Literal(second),
        "differs": sql.SQL(" or ").join([sql.SQL("false"), *differ]),
        "each": sql.SQL(" ").join(_about(table, "each", differs=one) for one in differ),
        "cells": sql.SQL(", ").join(sql.SQL("a.{0}, b.{0}").format(sql.Identifier(name)) for name in columns),
        "rows": sql.Literal(rows),
    }
    [counts] = connection.execute(_about(table, "difference", **parts)).fetchall()
    in_first, in_second, both, different, *per_column = counts
    samples = []
    for key, *values in connection.execute(_about(table, "samples", **parts)).fetchall() if different and rows else []:
        pairs = zip(columns, values[::2], values[1::2], strict=True)
        samples.append({"key": key, "changes": {name: [old, new] for name, old, new in pairs if old != new}})
    changed = dict(zip(columns, per_column, strict=True))
    only = in_first - both, in_second - both
    return TableDifference(table.name, in_first, in_second, *only, both - different, different, changed, samples)


def _about(table: Table, name: str, **parts: sql.Composable) -> sql.Composed:
    """A statement of the .sql file, about one table."""
    parts["key"] = sql.Identifier(table.primary_key)
    parts["production"] = sql.Identifier("public", table.name)
    parts["history"] = sql.Identifier("public", f"{table.name}_snapshots")
    return statement(__file__, name).format(**parts)


def _columns(connection: Connection, table: Table) -> list[str]:
    """The declared columns that the table's history has in this database; none where there is no such table."""
    parameters = {"table": f"{table.name}_snapshots", "declared": table.column_names}
    return [name for (name,) in connection.execute(statement(__file__, "columns"), parameters).fetchall()]
