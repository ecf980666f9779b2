"""Attempts at months: their rows in ops.loads, the lock that one of them holds, and what staging holds."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata

from psycopg import sql
from psycopg.types.json import Jsonb

from loader import __version__
from loader.contract.packages import audit_package
from loader.database import Connection, one_row, ops_ddl, retries, run_lock, statement, value
from loader.delivery import Delivery
from loader.errors import SurroundingsFailed
from loader.landing import LandedFile
from loader.words import printable


def prepare(connection: Connection) -> None:
    """Create the tables and functions of ops, or update them to this version."""
    if not is_current(connection):
        create(connection)


def create(connection: Connection) -> None:
    """Create whatever is missing in ops, even if somebody dropped it by hand."""
    connection.execute(ops_ddl())
    connection.execute(sql.SQL("comment on table ops.loads is {}").format(sql.Literal(_stamp())))


def is_current(connection: Connection) -> bool:
    """Whether this version was the last to prepare the ledger; changes by hand do not show."""
    query = "select obj_description(to_regclass('ops.loads'), 'pg_class') is not distinct from %s"
    return bool(value(connection, query, [_stamp()]))


def require_current(connection: Connection) -> None:
    """Require that another version of streamflow did not prepare the ledger, if there is one."""
    if exists(connection) and not is_current(connection):
        raise SurroundingsFailed(
            "schema ops is of another version of streamflow: `streamflow init` updates it and changes no rows."
            " Run that, then try again."
        )


def _stamp() -> str:
    """The hash of the ledger's SQL, kept as the comment of ops.loads: the role that loads does not own the schema."""
    return hashlib.md5(ops_ddl(), usedforsecurity=False).hexdigest()


def exists(connection: Connection) -> bool:
    """Whether this database has a ledger.

    Raises:
        SurroundingsFailed: the ledger is one of an earlier version.
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
    """Take the run lock for the life of the connection. Only one command that loads or changes months can hold it.

    Raises:
        SurroundingsFailed: another run holds the lock; the message names the run.
    """
    if not value(connection, "select pg_try_advisory_lock(%s, %s)", run_lock()):
        running = holder(connection) or "it may have ended just now"
        raise SurroundingsFailed(f"another run is under way on this database: {running}. Try again when it has ended.")


def holder(connection: Connection) -> str | None:
    """Who holds the run lock: the ledger's running attempt, or dbt run by hand, which shares it; None if it is free.

    An attempt that began before the session that holds the lock was cut off, so it is not named.
    """
    held = connection.execute(statement(__file__, "holder"), run_lock()).fetchone()
    if held is None:
        return None
    if held[0]:
        return str(held[0])
    running = connection.execute(statement(__file__, "running"), held[1:2]).fetchone() if exists(connection) else None
    if running:
        return "{} of month {}, begun by {} at {}".format(*running)
    return f"a run that has just begun, or a command like `forget`, by {held[2]}"


def begin(
    connection: Connection, delivery: Delivery, command: str, restate: str | None, waive: Mapping[str, str]
) -> int:
    """Enter a new attempt and its waivers; return its load_id.

    The caller holds the lock, so attempts that are still marked as running were cut off; they become interrupted.

    Args:
        restate: the reason for replacing a published month, if the attempt does so.
        waive: the audits that only warn, each with the reason.
    """
    values = [command, delivery.label, delivery.as_of, who(), delivery.origin, Jsonb(_versions(connection))]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(statement(__file__, "mark_interrupted"))
        load_id = value(connection, statement(__file__, "begin"), [*values, restate is not None, restate])
        waivers = [(load_id, name, reason, who()) for name, reason in waive.items()]
        cursor.executemany(statement(__file__, "waive"), waivers)
    return int(load_id)


def _versions(connection: Connection) -> dict[str, str]:
    """Name -> version of the programs in use and of the audit package."""
    version = connection.info.server_version
    return {
        "streamflow": __version__,
        "python": platform.python_version(),
        "dbt": metadata.version("dbt-core"),
        "postgresql": f"{version // 10000}.{version % 10000}",
        "audited_with": audit_package() or "none",
    }


def take_back(connection: Connection, load_id: int) -> None:
    """Delete an attempt that turned out to be wrong usage of the command."""
    with connection.transaction():
        connection.execute("delete from ops.waivers where load_id = %s", [load_id])
        connection.execute("delete from ops.loads where load_id = %s", [load_id])


def set_staged(
    connection: Connection, load_id: int, delivery: Delivery, rows: Mapping[str, int], *, refused: bool = False
) -> None:
    """Record what staging holds now: the row count of every table, in one transaction.

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
    """Record that staging holds nothing that may be read, as when a landing begins."""
    connection.execute("delete from ops.staged")


def require_landed(connection: Connection, delivery: Delivery, rows: Mapping[str, int]) -> None:
    """Require that staging still holds the rows that landed: it is unlogged, so a node that crashed loses its part.

    Args:
        rows: how many landed, by table.

    Raises:
        ConnectionLost: rows are missing, so what was found in staging says nothing about the files.
    """
    count = sql.SQL("select count(*) from {}")
    there = {table: value(connection, count.format(sql.Identifier("staging", table))) for table in rows}
    if lost := [f"staging.{table}" for table in rows if there[table] != rows[table]]:
        raise retries.ConnectionLost(
            f"{', '.join(lost)} no longer held the rows that landed, as after a node's crash. Nothing was changed:"
            f" ingest month {delivery.label} again."
        )


def undo_unfinished(connection: Connection) -> None:
    """Undo history that other loads left unfinished: audits compare with the month before, as it was published."""
    connection.execute("select ops.require_settled_cluster(), ops.undo_unfinished_loads()")


def enter_files(connection: Connection, load_id: int, files: Sequence[LandedFile]) -> None:
    """Record the files of the attempt: names, hashes, sizes and row counts."""
    entries = Jsonb([asdict(file) for file in files])
    connection.execute("update ops.loads set files = %s where load_id = %s", [entries, load_id])


def register_run(connection: Connection, invocation_id: str) -> None:
    """Record that a dbt run belongs to this session: its steps run only while this session holds the lock."""
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
    """Close an attempt with its final state. Only ops.published says whether its month is published."""
    connection.execute(statement(__file__, "finish"), [state, Jsonb(dict(timings)), list(failed_nodes), error, load_id])


def who() -> str:
    """The user, the host and the process, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{printable(user)}@{socket.gethostname()} (process {os.getpid()})"
