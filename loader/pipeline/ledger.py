"""The ledger: one row in ops.loads per attempt, and what ops knows of staging, audits and history."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import TupleRow, class_row, dict_row
from psycopg.types.json import Jsonb

from loader.database.connect import Connection
from loader.database.ddl import ops_ddl
from loader.delivery.deliveries import Delivery
from loader.errors import SurroundingsFailed
from loader.landing.copy import LandedFile

LOCK = (0x5F10, 1)
"""The advisory lock that an ingest or a check holds while its session lives; macros/gate/run_lock.sql has the same."""


@dataclass(frozen=True)
class TableHistory:
    """History of one table on one as_of: when production took it in, and the file it was built from."""

    table_name: str
    load_id: int
    rows_delivered: int
    rows_total: int
    rows_inserted: int | None
    rows_updated: int | None
    merged_at: dt.datetime | None
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


def one_row(connection: Connection, query: str | sql.Composed, values: Sequence[object] = ()) -> TupleRow:
    """The row of a query that has exactly one."""
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise SurroundingsFailed("the ledger lacks a row that was there: was ops changed by hand?")
    return row


def prepare(connection: Connection) -> None:
    """Create the ops tables where they are missing."""
    if connection.execute("select to_regclass('ops.history')").fetchone() == (None,):
        connection.execute(ops_ddl())


def exists(connection: Connection) -> bool:
    """Whether this database has a ledger."""
    return connection.execute("select to_regclass('ops.history') is not null").fetchone() == (True,)


def lock(connection: Connection) -> None:
    """Take the lock that only one ingest or check may hold, for the life of the connection.

    Raises:
        SurroundingsFailed: another run holds it; the message names it.
    """
    if connection.execute("select pg_try_advisory_lock(%s, %s)", LOCK).fetchone() != (True,):
        raise SurroundingsFailed(
            f"another run is under way on this database: {holder(connection)}. Wait for it to end."
        )


def holder(connection: Connection) -> str:
    """Who holds the lock: the attempt that the ledger says is running, or a step of dbt, which shares it."""
    by_hand = connection.execute(
        "select format('dbt run by hand by %%s from %%s (server process %%s), under way since %%s', usename,"
        " coalesce(client_addr::text, 'the server itself'), pid, to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS UTC'))"
        " from pg_locks inner join pg_stat_activity using (pid)"
        " where locktype = 'advisory' and (classid, objid) = (%s, %s) and mode = 'ShareLock' limit 1",
        LOCK,
    ).fetchone()
    if by_hand is not None:
        return str(by_hand[0])
    running = (
        exists(connection)
        and connection.execute(
            "select command, month, started_by, to_char(started_at, 'YYYY-MM-DD HH24:MI:SS UTC') from ops.loads"
            " where state = 'running' order by load_id desc limit 1"
        ).fetchone()
    )
    return "{} of month {}, begun by {} at {}".format(*running) if running else "a run that has just begun"


def mark_interrupted(connection: Connection) -> None:
    """With the lock held no other attempt can be running: those that say so were cut off."""
    connection.execute("update ops.loads set state = 'interrupted', finished_at = now() where state = 'running'")


def begin(
    connection: Connection, command: str, delivery: Delivery, versions: Mapping[str, str], restates: str | None = None
) -> int:
    """Enter a new attempt; returns its load_id. `restates` is the reason why a published month is to be replaced."""
    query = (
        "insert into ops.loads (command, month, as_of, started_by, data_dir, versions, restates, reason)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s) returning load_id"
    )
    values = [command, delivery.label, delivery.as_of, _who(), str(delivery.data_dir), Jsonb(dict(versions))]
    values += [restates is not None, restates]
    return int(one_row(connection, query, values)[0])


def set_staged(connection: Connection, load_id: int, delivery: Delivery, files: Sequence[LandedFile]) -> None:
    """Say what staging holds now, all tables at once, and enter the files with the attempt."""
    with connection.transaction():
        connection.execute("delete from ops.staged")
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into ops.staged (table_name, load_id, as_of, row_count) values (%s, %s, %s, %s)",
                [(file.table, load_id, delivery.as_of, file.rows) for file in files],
            )
        enter_files(connection, load_id, files)


def enter_files(connection: Connection, load_id: int, files: Sequence[LandedFile]) -> None:
    """Enter names, hashes and sizes of the files with the attempt."""
    connection.execute(
        "update ops.loads set files = %s where load_id = %s", [Jsonb([f.as_dict() for f in files]), load_id]
    )


def month_published_on(connection: Connection, delivery: Delivery) -> str:
    """The month whose delivery history on this as_of was built from, as people write it."""
    query = "select loads.month from ops.history inner join ops.loads using (load_id) where history.as_of = %s limit 1"
    return str(one_row(connection, query, [delivery.as_of])[0])


def was_published(connection: Connection, delivery: Delivery) -> bool:
    """Whether a month has ever been published for this as_of."""
    query = "select exists (select 1 from ops.loads where as_of = %s and state = 'published')"
    return bool(one_row(connection, query, [delivery.as_of])[0])


def require_finished_months(connection: Connection, delivery: Delivery) -> None:
    """Make sure that no other month is half published: the next one would be built on it.

    Raises:
        SurroundingsFailed: one is, or a table of history or production is gone; the message says what to do.
    """
    begun = connection.execute(
        "select distinct loads.month, history.as_of from ops.history as history"
        " inner join ops.loads as loads using (load_id)"
        " where history.as_of <> %s and not exists (select 1 from ops.loads as done"
        " where done.as_of = history.as_of and done.state = 'published' and done.load_id >= history.load_id)",
        [delivery.as_of],
    ).fetchone()
    if begun is not None:
        month, as_of = begun
        raise SurroundingsFailed(
            f"month {month} (as of {as_of}) was begun and not finished: ingest it again before another month."
        )
    gone = connection.execute(
        "select distinct name from ops.history,"
        " lateral (values (table_name), (table_name || '_snapshots')) as expected (name)"
        " where to_regclass(format('public.%I', name)) is null"
    ).fetchall()
    if gone:
        names = ", ".join(f"public.{name}" for (name,) in gone)
        raise SurroundingsFailed(f"the ledger knows tables that are gone: {names}. Restore the database from a backup.")


def clear_staged(connection: Connection) -> None:
    """Say that staging holds nothing that may be read: a landing begins."""
    connection.execute("delete from ops.staged")


def finish(
    connection: Connection,
    load_id: int,
    state: str,
    *,
    counts: Sequence[Mapping[str, Any]] = (),
    timings: Mapping[str, float] | None = None,
    invocation_id: str | None = None,
    error: str | None = None,
) -> None:
    """Close an attempt with the state it ended in."""
    connection.execute(
        "update ops.loads set state = %s, counts = %s, timings = %s, dbt_invocation_id = %s, error = %s,"
        " finished_at = clock_timestamp() where load_id = %s",
        [state, Jsonb(list(counts)), Jsonb(dict(timings or {})), invocation_id, error, load_id],
    )


def mark_refused(connection: Connection, load_id: int) -> None:
    """Make sure that the gate never opens for this load, before anything of it is staged."""
    connection.execute("update ops.loads set state = 'refused' where load_id = %s", [load_id])


def state_of(connection: Connection, load_id: int) -> str:
    """The state of an attempt; dbt sets `published` itself when the last table is done."""
    return str(one_row(connection, "select state from ops.loads where load_id = %s", [load_id])[0])


def history_on(connection: Connection, as_of: dt.date) -> dict[str, TableHistory]:
    """Table name -> its history on that date, for those that have one."""
    with connection.cursor(row_factory=class_row(TableHistory)) as cursor:
        rows = cursor.execute(
            "select history.table_name, history.load_id, rows_delivered, rows_total, rows_inserted, rows_updated,"
            " merged_at, file ->> 'sha256' as sha256"
            " from ops.history as history inner join ops.loads as loads using (load_id)"
            " left join lateral (select file from jsonb_array_elements(loads.files) as file"
            " where file ->> 'table' = history.table_name) as files on true where history.as_of = %s",
            [as_of],
        ).fetchall()
    return {row.table_name: row for row in rows}


def audits_of(connection: Connection, load_id: int) -> list[AuditResult]:
    """The verdicts on a load, worst first."""
    with connection.cursor(row_factory=class_row(AuditResult)) as cursor:
        return cursor.execute(
            "select audit_id, audit_name, table_name, column_name, severity, status, failures from ops.audits"
            " where load_id = %s order by array_position(array['fail', 'warn', 'pass'], status), audit_name",
            [load_id],
        ).fetchall()


def months(connection: Connection) -> list[dict[str, Any]]:
    """Per as_of the newest attempt that got past the lock, and whether the month is published; oldest date first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """
            with attempts as (
                select *, row_number() over (partition by as_of order by load_id desc) as age,
                    count(*) over (partition by as_of) as attempts
                from ops.loads
            ),

            published as (
                select distinct on (as_of) as_of, load_id, month, files, counts, versions, finished_at
                from ops.loads where state = 'published' order by as_of, load_id desc
            ),

            verdicts as (
                select load_id, count(*) filter (where status = 'pass') as passed,
                    count(*) filter (where status = 'warn') as warned,
                    count(*) filter (where status = 'fail') as failed
                from ops.audits group by load_id
            )

            select
                coalesce(published.month, attempts.month) as month,
                attempts.as_of,
                case when published.load_id is null then attempts.state else 'published' end as state,
                attempts.state as last_attempt,
                attempts.attempts,
                published.finished_at as published_at,
                attempts.error,
                coalesce(verdicts.passed, 0) as audits_passed,
                coalesce(verdicts.warned, 0) as audits_warned,
                coalesce(verdicts.failed, 0) as audits_failed,
                coalesce(published.versions, attempts.versions) as versions,
                coalesce(published.counts, attempts.counts) as counts,
                coalesce(published.files, attempts.files) as files,
                array(
                    select distinct restatements.as_of::text
                    from ops.restatements as restatements
                    inner join ops.history as history
                        on history.table_name = restatements.table_name and history.as_of = attempts.as_of
                    where restatements.as_of < attempts.as_of and history.built_at < restatements.restated_at
                    order by 1
                ) as built_on_replaced
            from attempts
            left join published using (as_of)
            left join verdicts on verdicts.load_id = coalesce(published.load_id, attempts.load_id)
            where attempts.age = 1
            order by attempts.as_of
            """
        ).fetchall()


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"
