"""Old months of history as Parquet files instead of partitions, and back again: provably the same."""

from __future__ import annotations

import contextlib
import datetime as dt
import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from loader.database import Connection, open_database, statement
from loader.errors import SurroundingsFailed, WrongUsage
from loader.pipeline import chain, ledger
from loader.pipeline.chain import Entry
from loader.settings import Settings
from loader.upkeep import parquet

PATIENCE = "10s"
"""How long to wait for those who read history."""
NOTHING = "nothing is archived, and nothing was changed"


@dataclass(frozen=True)
class Moved:
    """A month that was archived, or restored: its date, the folder of its files, and their names."""

    as_of: dt.date
    folder: Path
    files: list[str]
    rows: int


def archive(settings: Settings, before: dt.date, folder: Path) -> Iterator[Moved]:
    """Write the months before a date as Parquet, prove each file by reading it back, and then take them out.

    Raises:
        WrongUsage: a month cannot go: later ones have yet to be built on it, or a schema shows it.
        SurroundingsFailed: another run is under way, or history is not what the ledger says.
    """
    with _alone(settings) as connection:
        standing = [
            entry for entry in _sound(connection) if entry.schema_name == "history" and entry.event != "archived"
        ]
        old = [entry for entry in standing if entry.as_of < before]
        _require_dispensable(connection, old, standing)
        if old:
            folder.mkdir(parents=True, exist_ok=True)
        old.sort(key=lambda entry: entry.as_of)
        for as_of, entries in groupby(old, lambda entry: entry.as_of):
            yield _archive(connection, folder.resolve(), as_of, list(entries))


def keep_newest(settings: Settings, months: int) -> Iterator[Moved]:
    """Archive all but the newest months, as the setting says.

    Raises:
        WrongUsage: STREAMFLOW_ARCHIVE_DIR does not say where; else as of `archive`.
    """
    if settings.archive_dir is None:
        raise WrongUsage("STREAMFLOW_KEEP_MONTHS is set, and STREAMFLOW_ARCHIVE_DIR does not say where old months go.")
    with open_database(settings).connect() as connection:
        dates = sorted({entry.as_of for entry in chain.entries(connection) if entry.event != "archived"})
    if len(dates) > months:
        yield from archive(settings, dates[-months], settings.archive_dir)


def restore(settings: Settings, dates: Sequence[dt.date], folder: Path | None) -> Iterator[Moved]:
    """Attach archived months again, all of them where no date is named.

    Args:
        folder: where the files are now, if not where they were written to.

    Raises:
        WrongUsage: a date is not archived.
        SurroundingsFailed: a file is not there, or is not the one that was written.
    """
    with _alone(settings) as connection:
        entries = {(entry.as_of, entry.table_name): entry for entry in _sound(connection) if entry.event == "archived"}
        files = connection.execute(statement(__file__, "archived")).fetchall()
        if strange := [date for date in dates if date not in {row[0] for row in files}]:
            raise WrongUsage(f"{strange[0]} is not archived. These are: {_listed({row[0] for row in files})}.")
        for as_of, rows in groupby([row for row in files if not dates or row[0] in dates], lambda row: row[0]):
            found = [
                (entries[as_of, name], (folder or Path(there)) / file, sha256) for _, name, there, file, sha256 in rows
            ]
            yield _restore(connection, as_of, found)


def look(connection: Connection, entry: Entry) -> tuple[bool, str, bool]:
    """Whether an archived month's file is sound, what is known of it, and whether its folder can be seen from here."""
    rows = connection.execute(statement(__file__, "archived")).fetchall()
    [(folder, file, sha256)] = [row[2:] for row in rows if row[:2] == (entry.as_of, entry.table_name)]
    path = Path(folder) / file
    if not path.parent.is_dir():
        return True, f"archived in {path}, which cannot be seen from here", False
    if not path.is_file():
        return False, f"archived in {path}, which is gone", True
    sound = _sha256(path) == sha256
    return sound, f"archived in {path}{'' if sound else ', which is not the file that was written'}", True


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[Connection]:
    with contextlib.closing(open_database(settings).connect()) as connection:
        if not ledger.exists(connection):
            raise WrongUsage(f"{NOTHING}: no month was ever ingested into this database.")
        ledger.lock(connection)
        try:
            yield connection
        except psycopg.errors.LockNotAvailable:
            raise SurroundingsFailed(
                "history is being read: try again when nobody does. No month is half moved."
            ) from None


def _sound(connection: Connection) -> list[Entry]:
    entries = chain.entries(connection)
    if wrong := next((entry for entry in entries if entry.wrong), None):
        raise SurroundingsFailed(
            f"{wrong.table_name} of {wrong.as_of}: {wrong.wrong}. Nothing was changed; `streamflow verify` says more."
        )
    return entries


def _require_dispensable(connection: Connection, old: Sequence[Entry], standing: Sequence[Entry]) -> None:
    """Refuse where the newest month does not carry all that the old ones know, or something shows them."""
    newest = max((entry.as_of for entry in standing), default=None)
    carries = {entry.table_name: entry.load_id for entry in standing if entry.as_of == newest and entry.event}
    late = {entry.as_of for entry in old if entry.load_id >= carries.get(entry.table_name, 0)}
    if late:
        raise WrongUsage(
            f"{_listed(late)} cannot be archived yet: the newest month, {newest}, was built without it, or is not"
            " finished. Later months are built on the newest one: archive after the next month is published."
        )
    schemas = {f"as_of_{entry.as_of:%Y_%m_%d}": entry.as_of for entry in old}
    shown = connection.execute("select nspname from pg_namespace where nspname = any(%s)", [list(schemas)]).fetchall()
    if shown:
        date = schemas[shown[0][0]]
        raise WrongUsage(f"the schema {shown[0][0]} shows {date}: `streamflow freeze --drop {date}` first.")


def _archive(connection: Connection, folder: Path, as_of: dt.date, entries: Sequence[Entry]) -> Moved:
    told: list[dict[str, Any]] = []
    for entry in entries:
        path = folder / f"{entry.partition_name}.parquet"
        _write(connection, entry, path)
        with connection.transaction(force_rollback=True):
            proof = sql.Identifier("pg_temp", "proof")
            connection.execute(sql.SQL("create temporary table proof (like {})").format(entry.relation))
            _fill(connection, proof, path, entry)
        told.append(_told(entry) | {"file": path.name, "sha256": _sha256(path)})
    _sync(folder)
    with connection.transaction():
        connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
        for entry in entries:
            names = {"parent": _history(entry), "partition": entry.relation}
            connection.execute(statement(__file__, "detach").format(**names))
            connection.execute(sql.SQL("drop table {}").format(entry.relation))
        _tell(connection, "archived", as_of, folder, told)
    return _moved(as_of, folder, told)


def _restore(connection: Connection, as_of: dt.date, found: Sequence[tuple[Entry, Path, str]]) -> Moved:
    for _, path, sha256 in found:
        if not path.is_file():
            raise SurroundingsFailed(f"{path} is not there: say where it is now with --from FOLDER.")
        if _sha256(path) != sha256:
            raise SurroundingsFailed(f"{path} is not the file that was written: its SHA-256 is not {sha256}.")
    told = [_told(entry) | {"file": path.name, "sha256": sha256} for entry, path, sha256 in found]
    with connection.transaction():
        connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
        for entry, path, _ in found:
            parent = _history(entry).as_string(connection)
            key, first = ledger.one_row(connection, statement(__file__, "key"), [parent])
            names = {"parent": _history(entry), "partition": entry.relation}
            connection.execute(statement(__file__, "create").format(**names))
            relation = entry.relation.as_string(connection)
            connection.execute("select ops.spread(%s::regclass, %s)", [relation, first])
            _fill(connection, entry.relation, path, entry)
            connection.execute(statement(__file__, "attach"), [parent, relation, key, as_of])
        _tell(connection, "restored", as_of, found[0][1].parent, told)
    return _moved(as_of, found[0][1].parent, told)


def _write(connection: Connection, entry: Entry, path: Path) -> None:
    """Write the file anew; one that is there is of the same history, or is refused."""
    relation = entry.relation.as_string(connection)
    types: dict[str, str] = dict(connection.execute(statement(__file__, "columns"), [relation]).fetchall())
    key, _ = ledger.one_row(connection, statement(__file__, "key"), [relation])
    query = statement(__file__, "rows").format(relation=entry.relation, key=sql.SQL(key))
    for half in path.parent.glob(f".*{glob.escape(path.name)}.*"):  # of a run that was killed: there is no other now
        half.unlink()
    with parquet.appearing(path) as made:
        with made.open("wb") as stream, connection.cursor() as cursor, cursor.copy(query) as copy:
            for chunk in copy:
                stream.write(chunk)
        parquet.from_csv(made, types, exact=True)
        if path.exists() and _sha256(path) != _sha256(made):
            raise WrongUsage(f"{path} is there already, and has other rows: give another folder.")
        _sync(made)


def _fill(connection: Connection, relation: sql.Identifier, path: Path, entry: Entry) -> None:
    """Read a file into a table, and go on only where the table is what the ledger says of history."""
    names = sql.SQL(", ").join(map(sql.Identifier, parquet.columns(path)))
    query = statement(__file__, "load").format(relation=relation, columns=names)
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for chunk in parquet.as_csv(path):
            copy.write(chunk)
    compare = statement(__file__, "compare").format(relation=relation)
    found = ledger.one_row(connection, compare, [relation.as_string(connection), entry.covered])
    if found != (entry.rows, entry.checksum):
        raise SurroundingsFailed(
            f"{path} does not read back as {entry.table_name} of {entry.as_of}, so nothing was changed: its rows or"
            " their checksum differ. `streamflow verify` tells whether history is sound."
        )


def _history(entry: Entry) -> sql.Identifier:
    return sql.Identifier("public", f"{entry.table_name}_snapshots")


def _told(entry: Entry) -> dict[str, Any]:
    return {"table": entry.table_name, "as_of": str(entry.as_of), "load": entry.load_id,
            "rows": entry.rows, "checksum": int(entry.checksum)}  # fmt: skip


def _tell(connection: Connection, event: str, as_of: dt.date, folder: Path, told: list[dict[str, Any]]) -> None:
    connection.execute(statement(__file__, "tell"), [event, as_of, ledger.who(), str(folder), Jsonb(told)])


def _moved(as_of: dt.date, folder: Path, told: Sequence[dict[str, Any]]) -> Moved:
    return Moved(as_of, folder, [one["file"] for one in told], sum(one["rows"] for one in told))


def _listed(dates: set[dt.date]) -> str:
    return ", ".join(map(str, sorted(dates))) or "none"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Have a file or a folder on the disk, before the rows leave the database."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
