"""The attempts at months: a row each in ops.loads, the lock that one of them holds, and what staging holds of it."""

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
from loader.database import Connection, one_row, ops_ddl, retries, run_lock, statement
from loader.delivery import Delivery
from loader.errors import SurroundingsFailed
from loader.landing import LandedFile
from loader.words import printable


def prepare(connection: Connection) -> None:
    """Create the tables and functions of ops, or make them those of this version."""
    if not exists(connection) or not is_current(connection):
        create(connection)


def create(connection: Connection) -> None:
    """Create whatever of ops is missing, also where it was taken away by hand."""
    connection.execute(ops_ddl())
    connection.execute(sql.SQL("comment on table ops.loads is {}").format(sql.Literal(_stamp())))


def is_current(connection: Connection) -> bool:
    """Whether the ledger was last prepared by this version, whatever was done to it since."""
    query = "select obj_description(to_regclass('ops.loads'), 'pg_class') is not distinct from %s"
    return bool(one_row(connection, query, [_stamp()])[0])


def _stamp() -> str:
    """The hash of the ledger's SQL, which ops.loads has as its comment: the role that loads does not own the schema."""
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
        running = holder(connection) or "one that has ended by now"
        raise SurroundingsFailed(f"another run is under way on this database: {running}. Wait for it to end.")


def holder(connection: Connection) -> str | None:
    """Who holds the lock: the attempt that the ledger says is running, or a step of dbt by hand, which shares it."""
    held = connection.execute(statement(__file__, "holder"), run_lock()).fetchone()
    if held is None:
        return None
    if held[0]:
        return str(held[0])
    running = connection.execute(statement(__file__, "running")).fetchone() if exists(connection) else None
    return "{} of month {}, begun by {} at {}".format(*running) if running else "a run that has just begun"


def begin(
    connection: Connection, delivery: Delivery, command: str, restate: str | None, waive: Mapping[str, str]
) -> int:
    """Enter a new attempt, and what it waives; returns its load_id.

    With the lock held no other attempt can be running: those that say so were cut off, and are marked as interrupted.

    Args:
        restate: why a published month is to be replaced, where it is.
        waive: audits that are to warn only, each with the reason.
    """
    values = [command, delivery.label, delivery.as_of, who(), delivery.origin, Jsonb(_versions(connection))]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(statement(__file__, "mark_interrupted"))
        (load_id,) = one_row(connection, statement(__file__, "begin"), [*values, restate is not None, restate])
        waivers = [(load_id, name, reason, who()) for name, reason in waive.items()]
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
    with connection.transaction():
        connection.execute("delete from ops.waivers where load_id = %s", [load_id])
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


def require_landed(connection: Connection, delivery: Delivery, rows: Mapping[str, int]) -> None:
    """Go on where staging holds what landed: it is in no log, and a node that failed comes back without its part.

    Args:
        rows: how many landed, by table.

    Raises:
        ConnectionLost: it does not, and says nothing of the files.
    """
    count = sql.SQL("select count(*) from {}")
    there = {table: one_row(connection, count.format(sql.Identifier("staging", table)))[0] for table in rows}
    if lost := [f"staging.{table}" for table in rows if there[table] != rows[table]]:
        raise retries.ConnectionLost(
            f"{', '.join(lost)} no longer held the rows that landed, as after a node's crash. Nothing was changed:"
            f" ingest month {delivery.label} again."
        )


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


def who() -> str:
    """The person and the process, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{printable(user)}@{socket.gethostname()} (process {os.getpid()})"
