"""Proof that history is what was written, and that production is what follows from it: `streamflow verify`."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from psycopg import sql

from loader import ledger
from loader.contract.tables import Table, model_columns
from loader.database import Connection, ops_functions, statement
from loader.errors import SurroundingsFailed
from loader.ledger import chain
from loader.ledger.chain import Entry, Link
from loader.upkeep import archive
from loader.upkeep.history import measured
from loader.words import counted


class Relation(NamedTuple):
    """A table: what is wrong with it as a part of history, and with its triggers; its columns; its key but as_of."""

    name: str
    wrong: str | None
    unguarded: str | None
    columns: list[str]
    key: list[str]


LEDGER = "ops"
"""What a verdict on the ledger itself names as its table."""
ATTEMPTS = 3
SINCE = {
    "forgotten": "without those who were forgotten since",
    "migrated": "with columns that follow the declaration since",
}
"""Event of the chain -> what it did to history that was written before."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one table on one date, of a production table (as_of is None), or of the ledger.

    Of an archived month whose folder cannot be seen from here nothing is known: it is not `seen`, and sound.
    """

    table: str
    as_of: dt.date | None
    rows: int
    sound: bool
    finding: str
    seen: bool = True

    @property
    def about(self) -> str:
        """What it is about where that is no date."""
        return "" if self.table in {LEDGER, "manifest"} else "production"


def verify(connection: Connection, tables: Sequence[Table], links: Sequence[Link] | None) -> list[Verdict]:
    """Hold the tables against the ledger, the ledger against its chain, and production against history.

    Nothing is locked for it. What is not sound is looked at again where the ledger says other things by then: a month
    was published meanwhile, or history restated, archived or forgotten.

    Args:
        tables: the declared ones.
        links: the chain; None where there is no ledger.

    Raises:
        SurroundingsFailed: the ledger is of another version of streamflow, or is being written all the time.
    """
    for _ in range(ATTEMPTS):
        before = _ledger_as_it_is(connection, links)
        verdicts = list(_verdicts(connection, tables, links))
        if all(verdict.sound for verdict in verdicts) or before == _ledger_as_it_is(connection, links):
            return verdicts
        links = chain.links(connection)
    raise SurroundingsFailed("months were published or changed meanwhile: verify again when that has ended.")


def _ledger_as_it_is(connection: Connection, links: Sequence[Link] | None) -> tuple[object, ...] | None:
    """What differs once a run has changed history, production or the chain."""
    return None if links is None else connection.execute(statement(__file__, "ledger_as_it_is")).fetchone()


def _verdicts(connection: Connection, tables: Sequence[Table], links: Sequence[Link] | None) -> Iterator[Verdict]:
    if links is not None:
        if not ledger.is_current(connection):
            raise SurroundingsFailed(
                "what is in schema ops is of another version of streamflow: `streamflow init` makes it that of this"
                " one, and leaves all rows as they are; then verify again."
            )
        if changed := list(_functions(connection)):
            yield from changed  # which leaves nothing to verify by
            return
        yield from _ledger(connection, links)
    try:
        entries = [] if links is None else chain.entries(connection)
    except psycopg.DataError as error:
        said = f"entries are not what streamflow writes, so no table was looked at: {error.diag.message_primary}"
        yield Verdict(LEDGER, None, 0, False, said)
        return
    declared, covered = {table.name: table.column_names for table in tables}, defaultdict[str, set[str]](set)
    for entry in entries:
        covered[entry.table_name].update(entry.covered or ())
        yield _history(connection, entry)
    yield from _strays(connection, entries, [*covered, *declared])
    for name, columns in covered.items():
        history, production = (_look(connection, _public(connection, table)) for table in (f"{name}_snapshots", name))
        yield from _as_declared(name, history, production, columns.union(declared.get(name, ())))
        yield _production(connection, name, history, production)


def _functions(connection: Connection) -> Iterator[Verdict]:
    there = set(connection.execute(statement(__file__, "functions")).fetchall())
    for name in sorted({name for name, _ in there ^ set(ops_functions().items())}):
        finding = f"ops.{name} is not the function of this version of streamflow, so nothing else was looked at"
        yield Verdict(LEDGER, None, 0, False, finding)


def _ledger(connection: Connection, links: Sequence[Link]) -> Iterator[Verdict]:
    wrong = [f"link {link.link} of ops.chain {link.wrong}" for link in links if link.wrong]
    wrong += [f"ops.chain: {text}" for (text,) in connection.execute(statement(__file__, "unlinked")).fetchall()]
    yield from (Verdict(LEDGER, None, len(links), False, text) for text in wrong)
    if links and not wrong:
        yield Verdict(LEDGER, None, len(links), True, "the chain of publications holds")


def _history(connection: Connection, entry: Entry) -> Verdict:
    if entry.event == "archived" and not entry.wrong:
        return Verdict(entry.table_name, entry.as_of, entry.rows, *archive.look(connection, entry))
    rows, wrong = (entry.rows, entry.wrong) if entry.wrong else _rows(connection, entry)
    is_kept = entry.schema_name == "restated"
    written = "kept as it was before it was restated" if is_kept else "as it was written"
    since = " and ".join(text for event, text in SINCE.items() if event in entry.events)
    sound = ", ".join(filter(None, [written, since])) if entry.event or is_kept else "not finished: not published yet"
    if wrong and is_kept:
        wrong = f"kept by a restatement: {wrong}"
    return Verdict(entry.table_name, entry.as_of, rows, not wrong, wrong or sound)


def _rows(connection: Connection, entry: Entry) -> tuple[int, str | None]:
    """How many rows the table of an entry has, and what is wrong with it."""
    is_partition = entry.schema_name == "history"
    parent = _public(connection, f"{entry.table_name}_snapshots")
    found = _look(connection, entry.relation.as_string(connection), parent if is_partition else None)
    if found.wrong:
        return 0, found.wrong
    rows, checksum = measured(connection, entry.relation, entry.covered)
    if rows != entry.rows:
        return rows, f"{counted(rows, 'row')}, and {entry.rows:,} were written"
    later = set(found.columns) - set(entry.covered)
    if checksum != entry.checksum or (later and _are_filled(connection, entry, later)):
        return rows, "rows are not those that were written: the checksum differs"
    return rows, found.unguarded


def _are_filled(connection: Connection, entry: Entry, columns: set[str]) -> bool:
    """Whether a row has a value in one of the columns."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = statement(__file__, "filled").format(columns=names, relation=entry.relation)
    return connection.execute(query).fetchone() == (True,)


def _strays(connection: Connection, entries: Sequence[Entry], names: Sequence[str]) -> Iterator[Verdict]:
    """Tables with history that no entry of the ledger is of, as where the ledger was emptied."""
    known = [entry.relation.as_string(connection) for entry in entries if entry.partition_name]
    parents = [_public(connection, f"{name}_snapshots") for name in names]
    found = connection.execute(statement(__file__, "strays"), {"known": known, "parents": parents}).fetchall()
    yield from (Verdict(LEDGER, None, 0, False, f"no entry is of {name}, which holds history") for (name,) in found)


def _as_declared(name: str, history: Relation, production: Relation, known: set[str]) -> Iterator[Verdict]:
    """Triggers that history lacks, and columns that nobody declared, in somebody's own model either."""
    if history.unguarded and not history.wrong:
        yield Verdict(name, None, 0, False, history.unguarded)
    known = known | {"as_of", "observed_as_of"} | model_columns(f"history/{name}_snapshots")
    for table, columns in (
        (f"{name}_snapshots", set(history.columns) - known),
        (name, set(production.columns) - known - model_columns(f"production/{name}")),
    ):
        for column in sorted(columns):
            yield Verdict(name, None, 0, False, f"{table} has a column {column} that is not declared")


def _production(connection: Connection, name: str, history: Relation, production: Relation) -> Verdict:
    """Compare the columns that history has too: somebody's own columns of production are theirs."""
    for relation in (history, production):
        if not relation.columns:
            return Verdict(name, None, 0, False, f"{relation.name} is gone")
    if not history.key:
        return Verdict(name, None, 0, False, f"{history.name} has no primary key")
    query = statement(__file__, "production").format(
        key=sql.Identifier(history.key[0]),
        keys=sql.SQL(", ").join(map(sql.Identifier, history.key)),
        name=sql.Literal(name),
        columns=sql.SQL(", ").join(sql.Identifier(name) for name in production.columns if name in history.columns),
        history=sql.SQL(history.name),
        production=sql.SQL(production.name),
    )
    [(rows, differing)] = connection.execute(query).fetchall()
    [(unmerged,)] = connection.execute(statement(__file__, "unmerged"), [name]).fetchall()
    if unmerged:
        return Verdict(name, None, rows, True, f"not finished: it has yet to take in {unmerged}")
    if differing:
        return Verdict(name, None, rows, False, f"rows that differ from what history says: {differing:,}")
    return Verdict(name, None, rows, True, "what history says")


def _look(connection: Connection, name: str, parent: str | None = None) -> Relation:
    """What there is of a table, and whether it is a part of another."""
    names = {"relation": name, "parent": parent}
    [found] = connection.execute(statement(__file__, "relation"), names).fetchall()
    return Relation(name, *found)


def _public(connection: Connection, table: str) -> str:
    return sql.Identifier("public", table).as_string(connection)
