"""Proof that history is what was written, and that production is what follows from it: `streamflow verify`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from loader.database.connect import Connection
from loader.pipeline.ledger import one_row


@dataclass(frozen=True)
class Verdict:
    """What was found of one table on one date, or of a production table (as_of is None)."""

    table: str
    as_of: dt.date | None
    rows: int
    sound: bool
    finding: str


def verify(connection: Connection) -> Iterator[Verdict]:
    """Compute the checksum of every history table and date anew, and compare production with history."""
    entries = connection.execute(
        "select table_name, as_of, rows_total, checksum, checksum_columns from ops.history order by table_name, as_of"
    ).fetchall()
    for name, as_of, rows, checksum, columns in entries:
        yield _history(connection, name, as_of, rows, checksum, columns)
    for name in dict.fromkeys(entry[0] for entry in entries):
        yield _production(connection, name)


def _history(
    connection: Connection, name: str, as_of: dt.date, rows: int, checksum: object, columns: list[str]
) -> Verdict:
    history = sql.Identifier("public", f"{name}_snapshots")
    later = [column for column in _columns(connection, f"{name}_snapshots") if column not in columns]
    query = sql.SQL(
        "select count(*), coalesce(sum(hash_record_extended(row({covered}), 0)), 0), count(*) filter (where {filled})"
        " from {history} where as_of = {as_of}"
    ).format(
        covered=sql.SQL(", ").join(map(sql.Identifier, columns)),
        filled=sql.SQL("num_nonnulls({}) > 0").format(sql.SQL(", ").join(map(sql.Identifier, later)))
        if later
        else sql.SQL("false"),
        history=history,
        as_of=sql.Literal(as_of),
    )
    found, actual, filled = one_row(connection, query)
    if found != rows:
        return Verdict(name, as_of, found, False, f"{found:,} rows, and {rows:,} were written")
    if actual != checksum or filled:
        return Verdict(name, as_of, found, False, "rows are not those that were written: the checksum differs")
    return Verdict(name, as_of, found, True, "as it was written")


def _production(connection: Connection, name: str) -> Verdict:
    columns = _columns(connection, name)
    query = sql.SQL(
        "with newest as (select distinct on ({key}) {columns} from {history} where observed_as_of = as_of"
        " order by {key}, observed_as_of desc),"
        " actual as (select {columns} from {production})"
        " select count(actual.{key}), count(*) filter (where newest.* is distinct from actual.*)"
        " from newest full join actual on newest.{key} = actual.{key}"
    ).format(
        key=sql.Identifier(_key(connection, name)),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        history=sql.Identifier("public", f"{name}_snapshots"),
        production=sql.Identifier("public", name),
    )
    rows, differing = one_row(connection, query)
    if differing:
        return Verdict(name, None, rows, False, f"rows that differ from what history says: {differing:,}")
    return Verdict(name, None, rows, True, "what history says")


def _columns(connection: Connection, table: str) -> list[str]:
    query = (
        "select column_name from information_schema.columns where table_schema = 'public' and table_name = %s"
        " order by ordinal_position"
    )
    return [name for (name,) in connection.execute(query, [table]).fetchall()]


def _key(connection: Connection, table: str) -> str:
    query = (
        "select attname from pg_index inner join pg_attribute on attrelid = indrelid and attnum = indkey[0]"
        " where indrelid = format('public.%%I', %s::text)::regclass and indisprimary"
    )
    return str(one_row(connection, query, [table])[0])
