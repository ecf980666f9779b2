"""The ledger: one row in ops.loads per attempt, and what ops knows of staging, audits, history and published months."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import TupleRow, class_row, dict_row
from psycopg.types.json import Jsonb

from loader.database import Connection, ops_ddl, run_lock, statement
from loader.delivery import Delivery
from loader.errors import SurroundingsFailed, WrongUsage
from loader.landing import LandedFile, printable


@dataclass(frozen=True)
class TableHistory:
    """Complete history of one table on one as_of, and the file it was built from."""

    table_name: str
    load_id: int
    rows_delivered: int
    rows_total: int
    rows_inserted: int | None
    rows_updated: int | None
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
class Publication:
    """The load that readers see for an as_of, and the month as it was asked for."""

    load_id: int
    month: str


def one_row(
    connection: Connection, query: str | sql.SQL | sql.Composed, values: Sequence[object] | Mapping[str, object] = ()
) -> TupleRow:
    """The row of a query that has exactly one."""
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise SurroundingsFailed("the ledger lacks a row that was there: was ops changed by hand?")
    return row


def prepare(connection: Connection) -> None:
    """Create the tables and functions of ops where they are missing."""
    if not exists(connection) or one_row(connection, "select to_regclass('ops.month_before') is null")[0]:
        connection.execute(ops_ddl())


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


def begin(
    connection: Connection,
    command: str,
    delivery: Delivery,
    versions: Mapping[str, str],
    restates: str | None = None,
    waive: Mapping[str, str] | None = None,
) -> int:
    """Enter a new attempt; returns its load_id.

    With the lock held no other attempt can be running: those that say so were cut off, and are marked as interrupted.

    Args:
        restates: the reason why a published month is to be replaced.
        waive: the audits that are to warn only, each with the reason.
    """
    values = [command, delivery.label, delivery.as_of, who(), delivery.origin, Jsonb(dict(versions))]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(statement(__file__, "mark_interrupted"))
        (load_id,) = one_row(connection, statement(__file__, "begin"), [*values, restates is not None, restates])
        waivers = [(load_id, name, reason, who()) for name, reason in (waive or {}).items()]
        cursor.executemany(statement(__file__, "waive"), waivers)
    return int(load_id)


def take_back(connection: Connection, load_id: int) -> None:
    """Take out an attempt that was none: the command was used wrongly."""
    connection.execute("delete from ops.loads where load_id = %s", [load_id])


def set_staged(connection: Connection, load_id: int, delivery: Delivery, files: Sequence[LandedFile]) -> None:
    """Say what staging holds now, all tables at once, and enter the files with the attempt."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("delete from ops.staged")
        cursor.executemany(
            statement(__file__, "stage"), [(file.table, load_id, delivery.as_of, file.rows) for file in files]
        )
        enter_files(connection, load_id, files)


def clear_staged(connection: Connection) -> None:
    """Say that staging holds nothing that may be read: a landing begins."""
    connection.execute("delete from ops.staged")


def enter_files(connection: Connection, load_id: int, files: Sequence[LandedFile]) -> None:
    """Enter names, hashes and sizes of the files with the attempt."""
    entries = Jsonb([asdict(file) for file in files])
    connection.execute("update ops.loads set files = %s where load_id = %s", [entries, load_id])


def mark_refused(connection: Connection, load_id: int) -> None:
    """Make sure that the gate never opens for this load, before anything of it is staged."""
    connection.execute("update ops.loads set state = 'refused' where load_id = %s", [load_id])


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


def history_on(connection: Connection, as_of: dt.date) -> dict[str, TableHistory]:
    """Table name -> its history on that date, of loads whose history stands in all their tables."""
    with connection.cursor(row_factory=class_row(TableHistory)) as cursor:
        rows = cursor.execute(statement(__file__, "history_on"), [as_of]).fetchall()
    return {row.table_name: row for row in rows}


def publication_of(connection: Connection, as_of: dt.date) -> Publication | None:
    """What readers see for that date; None where nothing is published, or a part of it is being replaced."""
    with connection.cursor(row_factory=class_row(Publication)) as cursor:
        return cursor.execute(statement(__file__, "publication_of"), [as_of]).fetchone()


def require_in_database(connection: Connection, as_of: dt.date) -> None:
    """Go on only where the history of a date is in the database.

    Raises:
        WrongUsage: it is archived; the message says where.
    """
    (folder,) = one_row(connection, "select min(folder) from ops.archived where as_of = %s", [as_of])
    if folder:
        raise WrongUsage(
            f"the history of {as_of} is archived in {folder}, and these are other files:"
            f" `streamflow archive --restore {as_of}` first."
        )


def was_published(connection: Connection, as_of: dt.date) -> bool:
    """Whether a month has ever been published for that date."""
    return bool(one_row(connection, "select exists (select 1 from ops.published where as_of = %s)", [as_of])[0])


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


def require_tables(connection: Connection) -> None:
    """Go on only where every table that has history is there.

    Raises:
        SurroundingsFailed: one is gone; the message names it.
    """
    gone = [name for (name,) in connection.execute(statement(__file__, "missing_tables")).fetchall()]
    if gone:
        raise SurroundingsFailed(
            f"the ledger knows tables that are gone: {', '.join(gone)}. Restore the database from a backup."
        )


def audits_of(connection: Connection, load_id: int) -> list[AuditResult]:
    """The verdicts on a load, worst first."""
    with connection.cursor(row_factory=class_row(AuditResult)) as cursor:
        return cursor.execute(statement(__file__, "audits"), [load_id]).fetchall()


def waivers_of(connection: Connection, load_id: int) -> list[Waiver]:
    """The audits that were to warn only on a load."""
    with connection.cursor(row_factory=class_row(Waiver)) as cursor:
        return cursor.execute(statement(__file__, "waivers"), [load_id]).fetchall()


def months(connection: Connection) -> list[dict[str, Any]]:
    """Per as_of the newest attempt, and whether the month is published; oldest date first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement(__file__, "months")).fetchall()


def who() -> str:
    """The person and the process, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{printable(user)}@{socket.gethostname()} (process {os.getpid()})"
