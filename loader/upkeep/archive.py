"""Move old months of history from partitions to Parquet files and back, with proof that no row differs."""

from __future__ import annotations

import contextlib
import datetime as dt
import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import psycopg
from psycopg import sql

from loader.contract.declared import columns_in_database
from loader.database import Connection, identifiers, one_row, open_database, statement
from loader.errors import SurroundingsFailed, WrongUsage
from loader.ledger import chain
from loader.ledger.chain import Entry
from loader.readers.freeze import schema_of
from loader.settings import Settings
from loader.upkeep import history, parquet

NOTHING = "nothing is archived, and nothing was changed"
UNLIKE = (SurroundingsFailed, ValueError, psycopg.DataError, psycopg.IntegrityError, psycopg.errors.UndefinedColumn)
"""What reading a file raises if it is not that of a partition."""

_date_of = attrgetter("as_of")


@dataclass(frozen=True)
class Moved:
    """A month that was archived or restored: its date, the folder and names of its files, and the number of rows."""

    as_of: dt.date
    folder: Path
    files: list[str]
    rows: int


def archive(settings: Settings, before: dt.date, folder: Path) -> Iterator[Moved]:
    """Write the months before a date as Parquet, prove each file by reading it back, then drop the partitions.

    Raises:
        WrongUsage: the newest month was built without one, a schema shows one, or a file with other rows is there.
        SurroundingsFailed: another run is under way, or history is not what the ledger says.
    """
    parquet.require_pyarrow()
    with history.locked(settings) as connection:
        entries = history.entries(connection, NOTHING)
        there = [entry for entry in entries if entry.schema_name == "history" and entry.event != "archived"]
        old = _dispensable(sorted(there, key=_date_of), before)
        _require_not_shown(connection, old)
        if old:
            folder.mkdir(parents=True, exist_ok=True)
        for as_of, of_date in groupby(old, _date_of):
            yield _archive(connection, folder.resolve(), as_of, list(of_date))


def _require_not_shown(connection: Connection, entries: Sequence[Entry]) -> None:
    """Require that no as-of schema shows the dates of the entries; WrongUsage names one that does."""
    query = "select nspname from pg_namespace where nspname = any(%s) order by 1"
    if shown := connection.execute(query, [[schema_of(entry.as_of) for entry in entries]]).fetchone():
        raise WrongUsage(f"the schema {shown[0]} shows such a month: `drop schema {shown[0]} cascade` in psql first.")


class _NotYet(WrongUsage):
    """Months can be archived only after the next one is published."""


def keep_newest(settings: Settings, months: int, *, published: bool) -> Iterator[Moved]:
    """Archive all but the newest `months` months, as STREAMFLOW_KEEP_MONTHS says.

    Leaves months alone that cannot be archived yet and, unless a month was just `published`, all while one is restored.

    Raises:
        WrongUsage: STREAMFLOW_ARCHIVE_DIR is not set, or as in `archive`.
    """
    if settings.archive_dir is None:
        raise WrongUsage("STREAMFLOW_KEEP_MONTHS is set, and STREAMFLOW_ARCHIVE_DIR does not say where old months go.")
    with open_database(settings).connect() as connection:
        here = [one for one in chain.entries(connection) if one.schema_name == "history" and one.event != "archived"]
    dates = sorted({entry.as_of for entry in here})
    if len(dates) > months and (published or not any("restored" in entry.events for entry in here)):
        with contextlib.suppress(_NotYet):
            yield from archive(settings, dates[-months], settings.archive_dir)


def restore(settings: Settings, dates: Sequence[dt.date], folder: Path | None) -> Iterator[Moved]:
    """Attach archived months again; all of them if no date is given.

    Args:
        folder: where the files are now, if they were moved.

    Raises:
        WrongUsage: a date is not archived.
        SurroundingsFailed: a file is missing, or is not the one that was written.
    """
    parquet.require_pyarrow()
    with history.locked(settings) as connection:
        away = [entry for entry in history.entries(connection, NOTHING) if entry.event == "archived"]
        known = {entry.as_of for entry in away}
        if strange := [date for date in dates if date not in known]:
            raise WrongUsage(f"{strange[0]} is not archived. These are: {_listed(known)}.")
        wanted = sorted((entry for entry in away if entry.as_of in (dates or known)), key=_date_of)
        for as_of, of_date in groupby(wanted, _date_of):
            yield _restore(connection, as_of, list(of_date), folder)


def look(entry: Entry) -> tuple[bool, str, bool]:
    """Whether an archived month's file is sound, a finding about it, and whether its folder can be reached."""
    path = Path(entry.file)
    unseen = True, f"archived in {path}, which cannot be seen from here", False
    try:
        if not path.parent.is_dir():
            return unseen
        if not path.is_file():
            return False, f"archived in {path}, which is gone", True
        sound = _sha256(path) == entry.sha256
    except PermissionError:
        return unseen
    return sound, f"archived in {path}{'' if sound else ', which is not the file that was written'}", True


def _dispensable(there: Sequence[Entry], before: dt.date) -> list[Entry]:
    """The entries of `there` (by date) that can go. The last one of a table that the newest month lacks stays.

    Raises:
        WrongUsage: the newest month is not finished, or does not carry the rows of all these entries.
    """
    last = {one.table_name: one for one in there}
    newest = [one for one in there if one.as_of == there[-1].as_of]
    staying = [one for one in last.values() if one not in newest]
    going = [one for one in there if one.as_of < before and one not in staying]
    is_finished = all(one.event for one in [*newest, *staying])
    # the newest month carries what was written before the last entry of the same table
    if late := {one.as_of for one in going if not is_finished or one.load_id >= last[one.table_name].load_id}:
        raise _NotYet(
            f"{_listed(late)} cannot be archived yet: the newest month, {newest[0].as_of}, is not finished, or does not"
            " carry these rows forward. The next month will: archive after the next month is published."
        )
    return going


def _archive(connection: Connection, folder: Path, as_of: dt.date, entries: Sequence[Entry]) -> Moved:
    moved = [(entry, folder / f"{entry.partition_name}.parquet") for entry in entries]
    for entry, path in moved:
        if not (was_there := path.exists()):  # after a restore it is, with fewer columns if one was declared since
            _write(connection, entry, path)
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(sql.SQL("create temporary table proof (like {})").format(entry.relation))
                _fill(connection, sql.Identifier("pg_temp", "proof"), path, entry)
        except UNLIKE:
            if was_there:
                raise WrongUsage(f"{path} is there already, and has other rows: give another folder.") from None
            raise
    _sync(folder)
    with history.all_or_nothing(connection, f"{as_of} is not archived"):
        for entry in entries:
            connection.execute(sql.SQL("drop table {}").format(entry.relation))
        _require_not_shown(connection, entries)  # a schema may have been made while the files were written
        return _moved(connection, "archived", as_of, moved)


def _restore(connection: Connection, as_of: dt.date, entries: Sequence[Entry], folder: Path | None) -> Moved:
    written = [(entry, Path(entry.file)) for entry in entries]
    moved = [(entry, folder / path.name if folder else path) for entry, path in written]
    for entry, path in moved:
        if not path.is_file():
            raise SurroundingsFailed(f"{path} is not there: give its present place with --from FOLDER.")
        if _sha256(path) != entry.sha256:
            raise SurroundingsFailed(f"{path} is not the file that was written: its SHA-256 is not {entry.sha256}.")
    with history.all_or_nothing(connection, f"{as_of} is not restored"):
        for entry, path in moved:
            parent, relation = (name.as_string(connection) for name in (_parent(entry), entry.relation))
            key, first = one_row(connection, statement(__file__, "key"), [parent])
            names = {"parent": _parent(entry), "partition": entry.relation}
            connection.execute(statement(__file__, "create").format(**names))
            connection.execute("select ops.spread(%s::regclass, %s)", [relation, first])
            _fill(connection, entry.relation, path, entry)
            connection.execute("select ops.key_partition(%s::regclass, %s)", [relation, key])
            connection.execute(statement(__file__, "attach"), [parent, relation, as_of])
        return _moved(connection, "restored", as_of, moved)


def _moved(connection: Connection, event: str, as_of: dt.date, moved: Sequence[tuple[Entry, Path]]) -> Moved:
    """Record in the chain where the month is now."""
    tables = [history.record_of(entry, file=path.name, sha256=entry.sha256 or _sha256(path)) for entry, path in moved]
    folder = moved[0][1].parent
    history.add_link(connection, event, tables, as_of=str(as_of), folder=str(folder))
    return Moved(as_of, folder, [path.name for _, path in moved], sum(entry.rows for entry, _ in moved))


def _write(connection: Connection, entry: Entry, path: Path) -> None:
    """Write the file, which appears only when it is complete."""
    relation = entry.relation.as_string(connection)
    types = columns_in_database(connection, [entry.partition_name], "history")[entry.partition_name]
    key, _ = one_row(connection, statement(__file__, "key"), [relation])
    query = statement(__file__, "rows").format(relation=entry.relation, key=sql.SQL(key))
    for half in path.parent.glob(f".*{glob.escape(path.name)}.*"):  # left by a killed run: the lock allows no other
        half.unlink()
    with parquet.appearing(path) as made:
        with made.open("wb") as stream:
            parquet.copy_out(connection, query, stream)
        parquet.from_csv(made, types, exact=True)
        _sync(made)


def _fill(connection: Connection, relation: sql.Identifier, path: Path, entry: Entry) -> None:
    """Read a file into a table, and require that the table's rows and checksum match the ledger."""
    names = identifiers(parquet.columns(path))
    query = statement(__file__, "load").format(relation=relation, columns=names)
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for chunk in parquet.as_csv(path):
            copy.write(chunk)
    if history.measured(connection, relation, entry.covered) != (entry.rows, entry.checksum):
        raise SurroundingsFailed(
            f"{path} does not read back as {entry.table_name} of {entry.as_of}, so nothing was changed: its rows or"
            " their checksum differ. `streamflow verify` tells whether history is sound."
        )


def _parent(entry: Entry) -> sql.Identifier:
    return sql.Identifier("public", f"{entry.table_name}_snapshots")


def _sha256(path: Path) -> str:
    """The hex digest of a file, also of one that was moved to other storage and is linked here."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _listed(dates: Iterable[dt.date]) -> str:
    return ", ".join(map(str, sorted(dates))) or "none"


def _sync(path: Path) -> None:
    """Flush a file or a folder to disk, before its rows leave the database."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
