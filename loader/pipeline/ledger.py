"""The ledger: one row in ops.loads per attempt, and what ops knows of staging, audits, history and published months."""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from psycopg import sql
from psycopg.rows import TupleRow, class_row
from psycopg.types.json import Jsonb

from loader import __version__
from loader.contract.packages import audit_package
from loader.database import Connection, ops_ddl, run_lock, statement
from loader.delivery import Delivery
from loader.errors import FINISH, SurroundingsFailed
from loader.landing import LandedFile
from loader.pipeline.outcome import TableCounts
from loader.pipeline.request import Request
from loader.words import printable


@dataclass(frozen=True)
class TableHistory:
    """Complete history of one table on one as_of, and the hash of the file it was built from."""

    counts: TableCounts
    sha256: str | None


@dataclass(frozen=True)
class AuditResult:
    """The verdict of one audit on one load."""

    audit_id: str
    audit_name: str
    table_name: str
    column_name: str | None
    severity: str
    status: str
    failures: int
    finding: str | None


@dataclass(frozen=True)
class Waiver:
    """An audit that was to warn only on a load: who said so, when and why."""

    audit_name: str
    reason: str
    waived_by: str
    waived_at: dt.datetime

    def __str__(self) -> str:
        return f"{self.audit_name}, by {self.waived_by} on {self.waived_at:%Y-%m-%d %H:%M} UTC: {self.reason}"


@dataclass(frozen=True)
class Standing:
    """What stands for a date: whether a month was ever published for it, and the folder in which it is archived.

    `load_id` is what readers see, and `month` as it was asked for; none where a part of it is being replaced. It is
    finished where nothing newer stands for the date, and production has taken all of it in.
    """

    was_published: bool
    archived_in: str | None
    load_id: int | None
    month: str | None
    is_finished: bool
    gone: list[str]


def one_row(
    connection: Connection, query: str | sql.SQL | sql.Composed, values: Sequence[object] | Mapping[str, object] = ()
) -> TupleRow:
    """The row of a query that has exactly one."""
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise SurroundingsFailed("the ledger lacks a row that was there: was ops changed by hand?")
    return row


def prepare(connection: Connection) -> None:
    """Create the tables and functions of ops, or make them those of this version."""
    if not exists(connection) or not is_current(connection):
        connection.execute(ops_ddl())
        connection.execute(sql.SQL("comment on schema ops is {}").format(sql.Literal(_stamp())))


def is_current(connection: Connection) -> bool:
    """Whether the ledger was last prepared by this version, whatever was done to it since."""
    query = "select obj_description(to_regnamespace('ops'), 'pg_namespace') is not distinct from %s"
    return bool(one_row(connection, query, [_stamp()])[0])


def _stamp() -> str:
    """The hash of the ledger's SQL, which the schema has as its comment."""
    return hashlib.md5(ops_ddl(), usedforsecurity=False).hexdigest()


def exists(connection: Connection) -> bool:
    """Whether this database has a ledger.

    Raises:
        SurroundingsFailed: it has one of an earlier version.
    """
    query = "select to_regclass('ops.waivers') is not null, to_regclass('ops.loads') is not null"
    current, some = one_row(connection, query)
    if some and not current:
        raise SurroundingsFailed(
            "this database was made by an earlier version of streamflow, which kept another ledger: ingest the months"
            " into a new database (POSTGRES_DB, or STREAMFLOW_HOME for the embedded server)."
        )
    return bool(current)


def lock(connection: Connection) -> None:
    """Take the lock that only one ingest, landing or check may hold, for the life of the connection.

    Raises:
        SurroundingsFailed: another run holds it; the message names it.
    """
    if connection.execute("select pg_try_advisory_lock(%s, %s)", run_lock()).fetchone() != (True,):
        raise SurroundingsFailed(
            f"another run is under way on this database: {holder(connection)}. Wait for it to end."
        )


def lock_is_held(connection: Connection) -> bool:
    """Whether any session holds or shares that lock."""
    return bool(one_row(connection, statement(__file__, "lock_is_held"), run_lock())[0])


def holder(connection: Connection) -> str:
    """Who holds the lock: the attempt that the ledger says is running, or a step of dbt, which shares it."""
    by_hand = connection.execute(statement(__file__, "dbt_by_hand"), run_lock()).fetchone()
    if by_hand is not None:
        return str(by_hand[0])
    running = connection.execute(statement(__file__, "running")).fetchone() if exists(connection) else None
    return "{} of month {}, begun by {} at {}".format(*running) if running else "a run that has just begun"


def begin(connection: Connection, delivery: Delivery, request: Request) -> int:
    """Enter a new attempt, and what it waives; returns its load_id.

    With the lock held no other attempt can be running: those that say so were cut off, and are marked as interrupted.
    """
    values = [request.command, delivery.label, delivery.as_of, who(), delivery.origin, Jsonb(_versions(connection))]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(statement(__file__, "mark_interrupted"))
        reason = request.restate
        (load_id,) = one_row(connection, statement(__file__, "begin"), [*values, reason is not None, reason])
        waivers = [(load_id, name, reason, who()) for name, reason in request.waive.items()]
        cursor.executemany(statement(__file__, "waive"), waivers)
    return int(load_id)


def _versions(connection: Connection) -> dict[str, str]:
    """Name -> version of the programs and the package of audits at work."""
    version = connection.info.server_version
    return {
        "streamflow": __version__,
        "python": platform.python_version(),
        "dbt": metadata.version("dbt-core"),
        "postgresql": f"{version // 10000}.{version % 10000}",
        "audited_with": audit_package() or "none",
    }


def take_back(connection: Connection, load_id: int) -> None:
    """Take out an attempt that was none: the command was used wrongly."""
    connection.execute("delete from ops.loads where load_id = %s", [load_id])


def set_staged(
    connection: Connection, load_id: int, delivery: Delivery, rows: Mapping[str, int], *, refused: bool = False
) -> None:
    """Say what staging holds now, all tables at once: how many rows each has.

    Args:
        refused: the gate must never open for this load.
    """
    with connection.transaction(), connection.cursor() as cursor:
        if refused:
            cursor.execute("update ops.loads set state = 'refused' where load_id = %s", [load_id])
        cursor.execute("delete from ops.staged")
        values = [(table, load_id, delivery.as_of, count) for table, count in rows.items()]
        cursor.executemany(statement(__file__, "stage"), values)


def clear_staged(connection: Connection) -> None:
    """Say that staging holds nothing that may be read: a landing begins."""
    connection.execute("delete from ops.staged")


def undo_unfinished(connection: Connection) -> None:
    """Give up what other loads began and did not finish: audits compare with the month before, as it was published."""
    connection.execute("select ops.require_settled_cluster(), ops.undo_unfinished_loads()")


def enter_files(connection: Connection, load_id: int, files: Sequence[LandedFile]) -> None:
    """Enter names, hashes and sizes of the files with the attempt."""
    entries = Jsonb([asdict(file) for file in files])
    connection.execute("update ops.loads set files = %s where load_id = %s", [entries, load_id])


def register_run(connection: Connection, invocation_id: str) -> None:
    """Say that a dbt run belongs to this session: its steps go on while this session holds the lock."""
    connection.execute(statement(__file__, "register_run"), [invocation_id])


def finish(
    connection: Connection,
    load_id: int,
    state: str,
    *,
    timings: Mapping[str, float],
    failed_nodes: Sequence[str] = (),
    error: str | None = None,
) -> None:
    """Close an attempt with the state it ended in. Whether its month is published, ops.published says alone."""
    connection.execute(statement(__file__, "finish"), [state, Jsonb(dict(timings)), list(failed_nodes), error, load_id])


def history_on(connection: Connection, as_of: dt.date, load_id: int | None = None) -> dict[str, TableHistory]:
    """Table name -> its history on that date, of loads whose history stands in all their tables.

    Args:
        load_id: of whom what was inserted and updated is counted; what others have built has changed nothing.
    """
    rows = connection.execute(statement(__file__, "history_on"), {"load_id": load_id, "as_of": as_of})
    return {counts[0]: TableHistory(TableCounts(*counts), sha256) for *counts, sha256 in rows.fetchall()}


def came_later(connection: Connection, tables: Sequence[str], as_of: dt.date) -> set[str]:
    """The tables of which a delivery may lack the file: they came later than its date."""
    if not exists(connection):
        return set()
    values = {"tables": list(tables), "as_of": as_of}
    return {name for (name,) in connection.execute(statement(__file__, "came_later"), values).fetchall()}


def left_to_build(connection: Connection, as_of: dt.date) -> list[str]:
    """What dbt is to select to build all below a published month: what failed, or everything after a run cut off."""
    row = connection.execute(statement(__file__, "left_to_build"), [as_of]).fetchone()
    return list(row[0]) if row else []


def standing(connection: Connection, as_of: dt.date) -> Standing:
    """What stands for a date.

    Raises:
        SurroundingsFailed: a table that has history is gone; the message names it.
    """
    with connection.cursor(row_factory=class_row(Standing)) as cursor:
        [found] = cursor.execute(statement(__file__, "standing"), {"as_of": as_of}).fetchall()
    if found.gone:
        rebuild = f"`{FINISH}` makes production anew from history"
        remedy = (
            "restore the database from a backup" if any(name.endswith("_snapshots") for name in found.gone) else rebuild
        )
        raise SurroundingsFailed(f"the ledger knows tables that are gone: {', '.join(found.gone)}. To go on, {remedy}.")
    return found


def is_unaudited(connection: Connection, as_of: dt.date) -> bool:
    """Whether staging still holds a load of that date whose audits have passed and are not entered."""
    connection.execute("select ops.clear_lost_staging()")
    return bool(one_row(connection, statement(__file__, "is_unaudited"), [as_of])[0])


def audits_of(connection: Connection, load_id: int) -> list[AuditResult]:
    """The verdicts on a load, worst first."""
    with connection.cursor(row_factory=class_row(AuditResult)) as cursor:
        return cursor.execute(statement(__file__, "audits"), [load_id]).fetchall()


def waivers_of(connection: Connection, load_id: int) -> list[Waiver]:
    """The audits that were to warn only on a load."""
    with connection.cursor(row_factory=class_row(Waiver)) as cursor:
        return cursor.execute(statement(__file__, "waivers"), [load_id]).fetchall()


def who() -> str:
    """The person and the process, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{printable(user)}@{socket.gethostname()} (process {os.getpid()})"
