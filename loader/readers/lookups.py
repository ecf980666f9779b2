"""Read-only queries on history: a customer's rows over time, and the difference between two dates."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import psycopg
from psycopg import sql

from loader.contract.customers import customers_first
from loader.contract.declared import columns_in_database
from loader.contract.tables import Table, load_contract
from loader.database import Connection, identifiers, one_row, statement
from loader.errors import WrongUsage
from loader.readers.published import published_months


@dataclass(frozen=True)
class State:
    """A row of one table on one date; `changed` names the columns that differ from the date before."""

    as_of: dt.date
    observed_as_of: dt.date
    delivered: bool
    values: dict[str, Any]
    changed: list[str]


@dataclass(frozen=True)
class RowOverTime:
    """One key's row over time, oldest date first; `key` and `states` are empty if the table has no such row."""

    table: str
    key: dict[str, Any]
    states: list[State]


@dataclass(frozen=True)
class TableDifference:
    """How one table differs between two dates. Each sample has a `key` (a list if the key has several columns) and
    `changes`: column -> [old, new]."""

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
    """All declared tables, or only the one of that name.

    Raises:
        WrongUsage: no table of that name is declared.
    """
    tables = load_contract()
    if found := [table for table in tables if name in {None, table.name}]:
        return found
    raise WrongUsage(f"no table {name} is declared: it is one of {', '.join(table.name for table in tables)}.")


def customer(connection: Connection, asked: str, tables: Sequence[Table]) -> list[RowOverTime]:
    """A customer's rows in each table's history; in a table without customers, the rows whose key is `asked`.

    Raises:
        WrongUsage: no history has the customer; the message says what to do.
    """
    found = [row for table in tables for row in _rows(connection, asked, table)]
    if not any(row.states for row in found):
        months = [f"{one.month} (archived)" if one.archived_in else one.month for one in published_months(connection)]
        names, who = ", ".join(f"{table.name}_snapshots" for table in tables), _who(customers_first(tables)[0])
        raise WrongUsage(
            f"no row of {asked!r} in {names}. Write {', '.join(who)} as in the files, capitals too."
            f" Months published: {', '.join(months) or 'none: streamflow ingest 000'}"
        )
    return found


def _rows(connection: Connection, asked: str, table: Table) -> list[RowOverTime]:
    columns, who = columns_in_history(connection, table), _who(table)
    nothing = [RowOverTime(table.name, {}, [])]
    try:
        values = next(csv.reader([asked]), []) if len(who) > 1 else [asked]
    except csv.Error:  # like a line break outside quotes
        return nothing
    if not columns or len(values) != len(who):
        return nothing
    placeholders = sql.SQL(", ").join([sql.Placeholder()] * len(who))
    names = {"columns": identifiers(columns), "who": identifiers(who), "values": placeholders}
    query = about(__file__, table, "states", **names)
    try:
        with connection.transaction():
            found = connection.execute(query, values).fetchall()
    except psycopg.DataError:  # text that the key's type does not allow matches no row
        return nothing
    rows = [(as_of, observed, dict(zip(columns, cells, strict=True))) for as_of, observed, *cells in found]
    by_key = groupby(rows, lambda row: {name: row[2][name] for name in table.key})
    return [RowOverTime(table.name, key, _states(states)) for key, states in by_key] or nothing


def _states(rows: Iterable[tuple[dt.date, dt.date, dict[str, Any]]]) -> list[State]:
    states: list[State] = []
    for as_of, observed, values in rows:
        before = states[-1].values if states else values
        changed = [name for name in values if values[name] != before[name]]
        states.append(State(as_of, observed, observed == as_of, values, changed))
    return states


def _who(table: Table) -> tuple[str, ...]:
    """The columns by which a lookup selects rows: the customer, or else the key."""
    return table.customer or table.key


def difference(connection: Connection, first: dt.date, second: dt.date, table: Table, rows: int) -> TableDifference:
    """How a table's history differs between two dates: counts, and at most `rows` sample rows."""
    columns = columns_in_history(connection, table)
    if not columns:
        return TableDifference(table.name, 0, 0, 0, 0, 0, 0, {}, [])
    columns = [name for name in columns if name not in table.key]
    differ = [sql.SQL("a.{0} is distinct from b.{0}").format(sql.Identifier(name)) for name in columns]
    parts: dict[str, sql.Composable] = {
        "first": sql.Literal(first),
        "second": sql.Literal(second),
        "differs": sql.SQL(" or ").join([sql.SQL("false"), *differ]),
        "each": sql.SQL(" ").join(about(__file__, table, "each", differs=one) for one in differ),
        "cells": sql.SQL(", ").join(sql.SQL("a.{0}, b.{0}").format(sql.Identifier(name)) for name in columns),
        "rows": sql.Literal(rows),
    }
    query = about(__file__, table, "difference", **parts)
    in_first, in_second, both, different, *per_column = one_row(connection, query)
    samples = []
    for row in connection.execute(about(__file__, table, "samples", **parts)).fetchall() if different else []:
        key, values = row[: len(table.key)], row[len(table.key) :]
        pairs = zip(columns, values[::2], values[1::2], strict=True)
        changes = {name: [old, new] for name, old, new in pairs if old != new}
        samples.append({"key": key[0] if len(key) == 1 else list(key), "changes": changes})
    changed = dict(zip(columns, per_column, strict=True))
    only = in_first - both, in_second - both
    return TableDifference(table.name, in_first, in_second, *only, both - different, different, changed, samples)


def about(module: str, table: Table, name: str, **parts: sql.Composable) -> sql.Composed:
    """A statement of a module's .sql file, with the names of one table; `key` is the first column of its key."""
    parts["key"] = sql.Identifier(table.key[0])
    parts["keys"] = identifiers(table.key)
    parts["history"] = sql.Identifier("public", f"{table.name}_snapshots")
    return statement(module, name).format(**parts)


def columns_in_history(connection: Connection, table: Table) -> list[str]:
    """The declared columns that the table's history has in this database; none if that table does not exist."""
    history = f"{table.name}_snapshots"
    there = columns_in_database(connection, [history]).get(history, {})
    return [name for name in table.column_names if name in there]
