"""Proof that history is what was written, and that production is what follows from it: `streamflow verify`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from loader.database import Connection, statement


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
    entries = connection.execute(statement(__file__, "entries")).fetchall()
    for entry in entries:
        yield _history(connection, *entry)
    for name in dict.fromkeys(entry[0] for entry in entries):
        yield _production(connection, name)


def _history(
    connection: Connection, name: str, as_of: dt.date, rows: int, partition: str, checksum: object, covered: list[str]
) -> Verdict:
    columns, _ = _shape(connection, f"{name}_snapshots")
    history = sql.Identifier("public", f"{name}_snapshots")
    query = statement(__file__, "counts").format(
        later=sql.SQL(", ").join([sql.NULL, *map(sql.Identifier, set(columns) - set(covered))]),
        history=history,
        as_of=sql.Literal(as_of),
    )
    [(found, filled)] = connection.execute(query).fetchall()
    if found != rows:
        return Verdict(name, as_of, found, False, f"{found:,} rows, and {rows:,} were written")
    names = [covered, history.as_string(connection), partition]
    actual = connection.execute(statement(__file__, "checksum"), names).fetchone()
    if actual != (checksum,) or filled:
        return Verdict(name, as_of, found, False, "rows are not those that were written: the checksum differs")
    return Verdict(name, as_of, found, True, "as it was written")


def _production(connection: Connection, name: str) -> Verdict:
    """Compare the columns that history has too: somebody's own columns of production are theirs."""
    known, key = _shape(connection, f"{name}_snapshots")
    columns, _ = _shape(connection, name)
    query = statement(__file__, "production").format(
        key=sql.Identifier(key),
        columns=sql.SQL(", ").join(sql.Identifier(column) for column in columns if column in known),
        history=sql.Identifier("public", f"{name}_snapshots"),
        production=sql.Identifier("public", name),
    )
    [(rows, differing)] = connection.execute(query).fetchall()
    [(unmerged,)] = connection.execute(statement(__file__, "unmerged"), [name]).fetchall()
    if unmerged:
        return Verdict(name, None, rows, True, f"not finished: it has yet to take in {unmerged}")
    if differing:
        return Verdict(name, None, rows, False, f"rows that differ from what history says: {differing:,}")
    return Verdict(name, None, rows, True, "what history says")


def _shape(connection: Connection, table: str) -> tuple[list[str], str]:
    """The columns of a table, and the first one of its primary key."""
    [(columns, key)] = connection.execute(statement(__file__, "shape"), {"table": table}).fetchall()
    return columns, key
