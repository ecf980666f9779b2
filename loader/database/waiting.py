"""Finds and reports the sessions that hold a lock for which a run waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import psycopg

from loader.database.connect import Connection, Database
from loader.database.sql_files import statement
from loader.errors import StreamflowError

PATIENCE = 3
"""Seconds that a session waits for a lock before the holder is reported."""


def blockers(connection: Connection) -> list[tuple[str, str]]:
    """The holders of locks that streamflow's sessions have waited for longer than PATIENCE, each with SQL to end it."""
    return connection.execute(statement(__file__, "blockers"), {"patience": PATIENCE}).fetchall()


@contextlib.contextmanager
def reporting_blockers(database: Database, tell: Callable[[str], object]) -> Iterator[None]:
    """While the body runs, report each session that blocks it once, from a background thread."""
    done = threading.Event()
    threading.Thread(target=_watch, args=[database, tell, done], name="waiting", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(database: Database, tell: Callable[[str], object], done: threading.Event) -> None:
    told = set[str]()
    if done.wait(PATIENCE):
        return
    with contextlib.suppress(psycopg.Error, StreamflowError), database.connect() as connection:
        while not done.wait(1):
            for who, remedy in blockers(connection):
                if who not in told and not done.is_set():
                    told.add(who)
                    tell(f"waiting for {who}; to end it, as its role or a superuser: {remedy}")
