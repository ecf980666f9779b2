"""`streamflow verify`: proves that history is what was written, and that production follows from it."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from psycopg import sql

from loader import ledger
from loader.contract.tables import Table, model_columns
from loader.database import Connection, identifiers, node_failure, one_row, ops_functions, ops_views, statement, value
from loader.errors import SurroundingsFailed
from loader.ledger import chain
from loader.ledger.chain import Entry
from loader.upkeep import archive
from loader.upkeep.history import measured
from loader.words import counted


class Relation(NamedTuple):
    """A table: what is wrong with it as a partition, and with its triggers; its columns with their types, and its key
    without as_of."""

    name: str
    wrong: str | None
    unguarded: str | None
    columns: dict[str, str]
    key: list[str]


LEDGER = "ops"
"""The table name in a verdict on the ledger itself."""
ATTEMPTS = 3
OTHER_COLUMNS = (
    psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.SyntaxError,
    psycopg.errors.DatatypeMismatch,
)  # fmt: skip
"""Errors if a view is gone or has other columns than its definition."""
SINCE = {
    "forgotten": "without those who were forgotten since",
    "migrated": "with columns that follow the declaration since",
}
"""Chain event -> what it did to history that was written earlier."""


@dataclass(frozen=True)
class Verdict:
    """The finding on a table on one date, or, with as_of None, on a production table, the ledger or the manifest.

    An archived month whose folder cannot be reached is not `seen`: it counts as sound, as nothing is known of it.
    """

    table: str
    as_of: dt.date | None
    rows: int
    sound: bool
    finding: str
    seen: bool = True

    @property
    def about(self) -> str:
        """What the verdict is about if it has no date; empty for the ledger and the manifest."""
        return "" if self.table in {LEDGER, "manifest"} else "production"


def verify(connection: Connection, tables: Sequence[Table]) -> list[Verdict]:
    """Compare the tables with the ledger, the ledger with its chain, and production with history.

    This takes no lock. If a verdict is not sound and the ledger changed meanwhile, all is verified again: a month may
    have been published, or history restated, archived or forgotten.

    Raises:
        SurroundingsFailed: the ledger is of another version of streamflow, or changes during every attempt; or a node
            cannot be reached or has yet to finish a commit.
    """
    connection.execute("set search_path = ''")  # so that it calls no function that somebody put into public
    for _ in range(ATTEMPTS):
        before = _ledger_as_it_is(connection)
        try:
            verdicts = list(_verdicts(connection, tables))
        except psycopg.errors.UndefinedTable:  # a month was archived, or its partition replaced
            if before == _ledger_as_it_is(connection):
                raise
        else:
            if all(verdict.sound for verdict in verdicts) or before == _ledger_as_it_is(connection):
                return verdicts
    raise SurroundingsFailed("months were published or changed meanwhile: verify again when that has ended.")


def _ledger_as_it_is(connection: Connection) -> tuple[object, ...] | None:
    """A fingerprint that differs once a run has changed history, production or the chain; None without a ledger."""
    if not ledger.exists(connection):
        return None
    return connection.execute(statement(__file__, "ledger_as_it_is")).fetchone()


def _verdicts(connection: Connection, tables: Sequence[Table]) -> Iterator[Verdict]:
    has_ledger = ledger.exists(connection)
    if has_ledger:
        ledger.require_current(connection)
        if changed := list(_functions(connection)) or list(_views(connection)):
            yield from changed  # every other check depends on these
            return
        if failure := node_failure(connection):  # rows would seem to be missing
            raise SurroundingsFailed(f"nothing was compared: {failure}")
        yield from _ledger(connection)
    try:
        entries = chain.entries(connection) if has_ledger else []
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
        yield _production(connection, name, history, production, declared.get(name, []))


def _functions(connection: Connection) -> Iterator[Verdict]:
    there = set(connection.execute(statement(__file__, "functions")).fetchall())
    for name in sorted({name for name, *_ in there ^ ops_functions()}):
        finding = f"ops.{name} is not the function of this version of streamflow, so nothing else was looked at"
        yield Verdict(LEDGER, None, 0, False, finding)


def _views(connection: Connection) -> Iterator[Verdict]:
    """Compare the rows of the ledger's views with those of their definitions, in the order in which they depend."""
    for name, query in ops_views().items():
        compare = statement(__file__, "same_rows").format(view=sql.Identifier("ops", name), query=sql.SQL(query))
        try:
            same = value(connection, compare)
        except OTHER_COLUMNS:
            same = False
        except psycopg.DataError:  # an entry that the view reads is not what streamflow writes: later checks name it
            continue
        if not same:
            finding = f"ops.{name} is not the view of this version of streamflow, so nothing else was looked at"
            yield Verdict(LEDGER, None, 0, False, finding)


def _ledger(connection: Connection) -> Iterator[Verdict]:
    links = chain.links(connection)
    wrong = [f"link {link.link} of ops.chain {link.wrong}" for link in links if link.wrong]
    wrong += [text for (text,) in connection.execute(statement(__file__, "unlinked")).fetchall()]
    yield from (Verdict(LEDGER, None, len(links), False, text) for text in wrong)
    if links and not wrong:
        yield Verdict(LEDGER, None, len(links), True, "the chain of publications holds")


def _history(connection: Connection, entry: Entry) -> Verdict:
    if entry.event == "archived" and not entry.wrong:
        relation = entry.relation.as_string(connection)
        if _look(connection, relation).columns:
            return Verdict(entry.table_name, entry.as_of, entry.rows, False, f"archived, and {relation} is there")
        return Verdict(entry.table_name, entry.as_of, entry.rows, *archive.look(entry))
    rows, wrong = (entry.rows, entry.wrong) if entry.wrong else _rows(connection, entry)
    is_kept = entry.schema_name == "restated"
    written = "kept as it was before it was restated" if is_kept else "as it was written"
    since = " and ".join(text for event, text in SINCE.items() if event in entry.events)
    sound = ", ".join(filter(None, [written, since])) if entry.event or is_kept else "not finished: not published yet"
    if wrong and is_kept:
        wrong = f"kept by a restatement: {wrong}"
    return Verdict(entry.table_name, entry.as_of, rows, not wrong, wrong or sound)


def _rows(connection: Connection, entry: Entry) -> tuple[int, str | None]:
    """How many rows an entry's table has, and what is wrong with the table, if anything."""
    is_partition = entry.schema_name == "history"
    parent = _public(connection, f"{entry.table_name}_snapshots")
    found = _look(connection, entry.relation.as_string(connection), parent if is_partition else None)
    if found.wrong:
        return 0, found.wrong
    rows, checksum = measured(connection, entry.relation, entry.covered)
    if rows != entry.rows:
        return rows, f"{counted(rows, 'row')}, and {entry.rows:,} were written"
    later = found.columns.keys() - entry.covered
    if checksum != entry.checksum or (later and _are_filled(connection, entry, later)):
        return rows, "rows are not those that were written: the checksum differs"
    return rows, found.unguarded


def _are_filled(connection: Connection, entry: Entry, columns: Iterable[str]) -> bool:
    """Whether any row has a value in any of the columns."""
    query = statement(__file__, "filled").format(columns=identifiers(columns), relation=entry.relation)
    return bool(value(connection, query))


def _strays(connection: Connection, entries: Sequence[Entry], names: Sequence[str]) -> Iterator[Verdict]:
    """Verdicts on history tables that have no entry in the ledger, for example because somebody emptied it."""
    known = [entry.relation.as_string(connection) for entry in entries if entry.partition_name]
    parents = [_public(connection, f"{name}_snapshots") for name in names]
    found = connection.execute(statement(__file__, "strays"), {"known": known, "parents": parents}).fetchall()
    yield from (Verdict(LEDGER, None, 0, False, f"{name} has history, but no entry") for (name,) in found)


def _as_declared(name: str, history: Relation, production: Relation, known: set[str]) -> Iterator[Verdict]:
    """Verdicts on triggers that history lacks, and on columns that neither the declaration nor a model has."""
    if history.unguarded and not history.wrong:
        yield Verdict(name, None, 0, False, history.unguarded)
    known = known | {"as_of", "observed_as_of"} | model_columns(f"history/{name}_snapshots")
    for table, columns in (
        (f"{name}_snapshots", history.columns.keys() - known),
        (name, production.columns.keys() - known - model_columns(f"production/{name}")),
    ):
        for column in sorted(columns):
            finding = f"{table} has a column {column} that neither the declaration nor a model has"
            yield Verdict(name, None, 0, False, finding)


def _incomparable(history: Relation, production: Relation, declared: Iterable[str]) -> str | None:
    """Why the two cannot be compared: a table is gone, or lacks its key or a column, or has it with another type."""
    if wrong := history.wrong or production.wrong:
        return wrong
    if not history.key:
        return f"{history.name} has no primary key"
    for column in [*history.key, *declared]:
        if column in history.columns and column not in production.columns:
            return f"{production.name} has no column {column}"
    for column, kind in production.columns.items():
        if (other := history.columns.get(column, kind)) != kind:
            return f"{production.name} has the column {column} as {kind}, and history as {other}"
    return None


def _production(
    connection: Connection, name: str, history: Relation, production: Relation, declared: Iterable[str]
) -> Verdict:
    """Compare production with history in the columns that both have: users may add columns to production."""
    if wrong := _incomparable(history, production, declared):
        return Verdict(name, None, 0, False, wrong)
    numeric_key = {column for column in history.key if history.columns[column] == "numeric"}
    carrying = value(connection, "select (ops.months_before(%s, 'infinity')).dates", [name])
    query = statement(__file__, "production").format(
        key=sql.Identifier(history.key[0]),
        keys=identifiers(history.key),
        name=sql.Literal(name),
        carrying=sql.SQL(carrying),
        columns=sql.SQL(", ").join(
            sql.SQL("trim_scale({0}) as {0}" if column in numeric_key else "{}").format(sql.Identifier(column))
            for column in production.columns
            if column in history.columns
        ),
        history=sql.SQL(history.name),
        production=sql.SQL(production.name),
    )
    rows, differing = one_row(connection, query)
    if unmerged := value(connection, statement(__file__, "unmerged"), [name]):
        return Verdict(name, None, rows, True, f"not finished: it has yet to take in {unmerged}")
    if production.key != history.key:  # without it, a row could be there twice
        return Verdict(name, None, rows, False, f"{production.name} no longer has the primary key of history")
    if differing:
        return Verdict(name, None, rows, False, f"rows that differ from what history says: {differing:,}")
    return Verdict(name, None, rows, True, "what history says")


def _look(connection: Connection, name: str, parent: str | None = None) -> Relation:
    """Inspect a table and, with `parent`, whether it is a partition of that table."""
    return Relation(name, *one_row(connection, statement(__file__, "relation"), {"relation": name, "parent": parent}))


def _public(connection: Connection, table: str) -> str:
    return sql.Identifier("public", table).as_string(connection)
