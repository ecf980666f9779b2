"""What history says: one customer over time, and the difference between two dates. Reads only."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from loader.contract.tables import Table, load_contract
from loader.database.connect import Connection
from loader.errors import WrongUsage
from loader.pipeline import ledger
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
class TableStates:
    """A customer's rows in one table, oldest date first."""

    table: str
    states: list[State]


@dataclass(frozen=True)
class Sample:
    """A row that differs between two dates: column -> [old, new], of the columns that differ."""

    key: Any
    changes: dict[str, list[Any]]


@dataclass(frozen=True)
class TableDifference:
    """How one table differs between two dates."""

    table: str
    first_rows: int
    second_rows: int
    only_first: int
    only_second: int
    equal: int
    different: int
    columns: dict[str, int]
    samples: list[Sample] = field(default_factory=list)


def chosen(name: str | None) -> list[Table]:
    """The declared tables, or the one of that name.

    Raises:
        WrongUsage: no table of that name is declared.
    """
    tables = load_contract()
    if name is None:
        return tables
    found = [table for table in tables if table.name == name]
    if not found:
        raise WrongUsage(f"no table {name} is declared: it is one of {', '.join(table.name for table in tables)}.")
    return found


def customer(connection: Connection, user_id: str, tables: Sequence[Table]) -> list[TableStates]:
    """The customer's rows in each table's history.

    Raises:
        WrongUsage: no history knows the customer; the message says what to do.
    """
    found = [TableStates(table.name, _states(connection, user_id, table)) for table in tables]
    if not any(one.states for one in found):
        names = ", ".join(f"{table.name}_snapshots" for table in tables)
        raise WrongUsage(f"no customer {user_id!r} in {names}.{_hint(connection, user_id)}")
    return found


def _states(connection: Connection, user_id: str, table: Table) -> list[State]:
    columns = _columns(connection, table)
    if not columns:
        return []
    query = sql.SQL("select as_of, observed_as_of, {} from {} where {} = %s order by as_of").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), _snapshots(table), sql.Identifier(table.primary_key)
    )
    try:
        rows = connection.execute(query, [user_id]).fetchall()
    except psycopg.DataError:  # text that cannot be a key of this type is nobody's
        return []
    states: list[State] = []
    for as_of, observed, *cells in rows:
        values = dict(zip(columns, cells, strict=True))
        before = states[-1].values if states else values
        changed = [name for name in columns if values[name] != before[name]]
        states.append(State(as_of, observed, observed == as_of, values, changed))
    return states


def _hint(connection: Connection, user_id: str) -> str:
    """What to try next: the same letters in another case, or what there is to look at."""
    published = [month.month for month in published_months(connection)]
    if not published:
        return " No month is published yet: streamflow ingest 000"
    first = load_contract()[0]
    if "\0" not in user_id and _columns(connection, first):
        query = sql.SQL("select {key}::text from public.{table} where lower({key}::text) = lower(%s) limit 1").format(
            key=sql.Identifier(first.primary_key), table=sql.Identifier(first.name)
        )
        near = connection.execute(query, [user_id.strip()]).fetchone()
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
    there = _columns(connection, table)
    if not there:
        return TableDifference(table.name, 0, 0, 0, 0, 0, 0, {})
    key = sql.Identifier(table.primary_key)
    columns = [name for name in there if name != table.primary_key]
    # The dates are literals, so that the planner reads two partitions and no other.
    sides = sql.SQL("(select * from {0} where as_of = {1}) as a {2} join (select * from {0} where as_of = {3}) as b")
    full = sides.format(_snapshots(table), sql.Literal(first), sql.SQL("full"), sql.Literal(second))
    inner = sides.format(_snapshots(table), sql.Literal(first), sql.SQL("inner"), sql.Literal(second))
    differs = [sql.SQL("a.{0} is distinct from b.{0}").format(sql.Identifier(name)) for name in columns]
    any_differs = sql.SQL(" or ").join(differs) if differs else sql.SQL("false")
    counted = [
        sql.SQL("count(a.{})").format(key),
        sql.SQL("count(b.{})").format(key),
        *(
            sql.SQL("count(*) filter (where a.{0} is not null and b.{0} is not null and ({1}))").format(key, condition)
            for condition in (any_differs, *differs)
        ),
        sql.SQL("count(*) filter (where a.{0} is not null and b.{0} is not null)").format(key),
    ]
    query = sql.SQL("select {} from {} on a.{} = b.{}").format(sql.SQL(", ").join(counted), full, key, key)
    in_first, in_second, different, *per_column, both = ledger.one_row(connection, query)
    changed = dict(zip(columns, per_column, strict=True))
    samples = _samples(connection, inner, key, columns, any_differs, rows) if different and rows else []
    only = in_first - both, in_second - both
    return TableDifference(table.name, in_first, in_second, *only, both - different, different, changed, samples)


def _samples(
    connection: Connection,
    sides: sql.Composed,
    key: sql.Identifier,
    columns: list[str],
    differs: sql.Composable,
    rows: int,
) -> list[Sample]:
    cells = [sql.SQL("{}.{}").format(sql.SQL(side), sql.Identifier(name)) for side in ("a", "b") for name in columns]
    query = sql.SQL("select a.{key}, {cells} from {sides} on a.{key} = b.{key} where {differs} order by 1 limit {rows}")
    query_made = query.format(
        key=key, cells=sql.SQL(", ").join(cells), sides=sides, differs=differs, rows=sql.Literal(rows)
    )
    samples = []
    for value, *both in connection.execute(query_made).fetchall():
        pairs = zip(columns, both[: len(columns)], both[len(columns) :], strict=True)
        samples.append(Sample(value, {name: [old, new] for name, old, new in pairs if old != new}))
    return samples


def _snapshots(table: Table) -> sql.Identifier:
    return sql.Identifier("public", f"{table.name}_snapshots")


def _columns(connection: Connection, table: Table) -> list[str]:
    """The declared columns that the table's history has in this database; none where there is no such table."""
    query = "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped"
    there = {name for (name,) in connection.execute(query, [f'public."{table.name}_snapshots"']).fetchall()}
    return [name for name in table.column_names if name in there]
