"""Stopping a run at a chosen point, by holding the lock that it needs next; no clock is involved."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.conftest import REPOSITORY, Streamflow
from tests.forked import Forked
from tests.servers import Server, connect

PATIENCE = 120
"""Seconds after which a run that does not come to its point has failed; none of them waits that long."""

POINTS: dict[str, Sequence[tuple[str, str]]] = {
    "ledger": [("ops.loads", "share")],
    "landing begins": [("ops.staged", "share")],
    "landing": [("staging.payments_agg_90d", "access share")],
    "dbt begins": [("ops.runs", "share")],
    "gate": [("ops.gate", "access share")],
    "first history": [
        (f"public.{name}_snapshots", "share update exclusive")
        for name in ("users", "subscriptions", "usage_agg_30d", "payments_agg_90d", "support_agg_90d", "labels")
    ],
    "last history": [("public.labels_snapshots", "share update exclusive")],
    "first merge": [("public.users", "share")],
    "last merge": [("public.labels", "share")],
    "published": [("ops.published", "share")],
    "verdicts": [("ops.audits", "share")],
}
"""Where a run can be stopped -> the tables to lock, and how: each lock lets readers through and the next step not."""

FIRST_MONTH_ONLY = {"keys": [("public.users", "access share")]}
"""The keys of a table are built after its first rows."""

ELSEWHERE = {
    "first audit": [("ops.waivers", "access exclusive")],
    "own model": [("public.held", "access exclusive")],
    "own model and last merge": [("public.held", "access exclusive"), ("public.labels", "share")],
    "forgetting": [("history.labels_2024_01_31", "share row exclusive")],
    "forgotten": [("ops.forgotten", "share")],
    "vacuum": [("public.users", "share update exclusive")],
    "writing": [("history.users_2024_01_31", "access exclusive")],
    "last detached": [("public.users_snapshots", "access share")],
    "last attached": [("public.users_snapshots", "share update exclusive")],
    "told": [("ops.chain", "share")],
}
"""The same of what is no ingest."""


class EndedBefore(AssertionError):
    """The run came to its end, and not to the point."""


class Paused:
    """A run that stands still: its process, the server processes that wait, and, once it has ended, what it said."""

    def __init__(self, process: Forked, waiting: list[int]) -> None:
        self.process, self.waiting = process, waiting
        self.said = ("", "")


def start(streamflow: Streamflow, *arguments: str | Path) -> Forked:
    """Begin `streamflow ARGUMENTS` as a process of its own."""
    environment = {**os.environ, **streamflow.environment}
    return Forked(REPOSITORY, Path.cwd(), environment, [*map(str, arguments)])


@contextlib.contextmanager
def paused(streamflow: Streamflow, point: str, *arguments: str | Path, application_name: str = "") -> Iterator[Paused]:
    """Run `streamflow ARGUMENTS` up to a point, and let it go on at the end, if it still lives.

    `application_name` is what the session that holds it up is called.
    """
    server = Server(streamflow.connection.info.host, streamflow.connection.info.port)
    with (
        contextlib.closing(connect(server, "streamflow")) as holder,
        contextlib.closing(connect(server, "streamflow")) as watch,
    ):
        holder.execute("select set_config('application_name', %s, false)", [application_name])
        holder.execute("begin")
        for table, mode in {**POINTS, **FIRST_MONTH_ONLY, **ELSEWHERE}[point]:
            name = sql.Identifier(*table.split("."))
            holder.execute(sql.SQL("lock table {} in {} mode").format(name, sql.SQL(mode)))
        process = start(streamflow, *arguments)
        run = Paused(process, [])
        try:
            run.waiting = waiting_for(holder, watch, process, point)
            yield run
        finally:
            with contextlib.suppress(psycopg.OperationalError):  # the server may have been killed meanwhile
                holder.execute("rollback")
            run.said = process.communicate(timeout=PATIENCE)


def waiting_for(
    holder: psycopg.Connection[Any], watch: psycopg.Connection[Any], process: Forked, point: str
) -> list[int]:
    """The sessions that wait for the holder, as soon as there are any."""
    query = "select array(select pid from pg_stat_activity where %s = any (pg_blocking_pids(pid))), pg_sleep(0.02)"
    for _ in range(PATIENCE * 50):
        [(waiting, _)] = watch.execute(query, [holder.info.backend_pid]).fetchall()
        if waiting:
            return list(waiting)
        if process.poll() is not None:
            raise EndedBefore(f"it ended before {point}: {process.communicate()}")
    process.kill()
    raise AssertionError(f"it did not come to {point}")
