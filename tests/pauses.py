"""Stops a run at a chosen point by holding the lock that it needs next, not by timing."""

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
"""Seconds after which a run that has not reached its point has failed; a sound run never takes that long."""

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
"""Point of a run -> the tables to lock, and the mode: it lets readers through and stops the next step."""

FIRST_MONTH_ONLY = {"keys": [("public.users", "access share")]}
"""A table's keys are built once, after its first rows."""

ELSEWHERE = {
    "schemas": [("pg_catalog.pg_namespace", "share")],
    "own model": [("public.held", "access exclusive")],
    "own model and last merge": [("public.held", "access exclusive"), ("public.labels", "share")],
    "forgetting": [("history.labels_2024_01_31", "share row exclusive")],
    "forgotten": [("ops.forgotten", "share")],
    "vacuum": [("public.users", "share update exclusive")],
    "writing": [("history.users_2024_01_31", "access exclusive")],
    "last detached": [("public.users_snapshots", "access share")],
    "restating": [("public.labels_snapshots", "access share")],
    "last attached": [("public.users_snapshots", "share update exclusive")],
    "told": [("ops.chain", "share")],
}
"""More points: of other commands, and of a project with a model that reads the table `held`."""


class EndedBefore(AssertionError):
    """The run ended before it reached the point."""


class Paused:
    """A stopped run: its process, the pids of the server processes that wait, and its output once it has ended."""

    def __init__(self, process: Forked, waiting: list[int]) -> None:
        self.process, self.waiting = process, waiting
        self.said = ("", "")


def start(streamflow: Streamflow, *arguments: str | Path) -> Forked:
    """Begin `streamflow ARGUMENTS` as a process of its own."""
    environment = {**os.environ, **streamflow.environment}
    return Forked(REPOSITORY, Path.cwd(), environment, [*map(str, arguments)])


@contextlib.contextmanager
def paused(streamflow: Streamflow, point: str, *arguments: str | Path, application_name: str = "") -> Iterator[Paused]:
    """Run `streamflow ARGUMENTS` up to a point; when the block ends, the run goes on if it is still alive.

    `application_name` is the name of the session that holds the lock.
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
    """The pids of the sessions that wait for the holder, as soon as there are any."""
    query = "select array(select pid from pg_stat_activity where %s = any (pg_blocking_pids(pid))), pg_sleep(0.02)"
    for _ in range(PATIENCE * 50):
        [(waiting, _)] = watch.execute(query, [holder.info.backend_pid]).fetchall()
        if waiting:
            return list(waiting)
        if process.poll() is not None:
            raise EndedBefore(f"it ended before {point}: {process.communicate()}")
    process.kill()
    raise AssertionError(f"it did not come to {point}")
