"""What a database that goes away for a moment does to a run, and how long one waits for it to come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

from loader.errors import SurroundingsFailed

ENDED_BY_THE_SERVER = {"57P01", "57P02", "57P03", "57P05"}
"""SQLSTATEs of sessions that an administrator, a crash or a restart ended; class 08 is the network's."""

DISK_FULL = "53100"

SESSIONS_ENDED = """
select sessions_abandoned + sessions_fatal + sessions_killed from pg_stat_database where datname = current_database()
"""


class ConnectionLost(SurroundingsFailed):
    """The connection went away in the middle of a run; the run may be begun again."""


def is_lost(error: psycopg.Error) -> bool:
    """Whether the error says that the session is gone, and not that the server refuses something."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    code = error.sqlstate
    return code is None or code in ENDED_BY_THE_SERVER or code.startswith("08")


def _may_be_there_in_a_moment(error: BaseException) -> bool:
    """Whether the server did not come as far as to judge a password."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.pgconn is None or not (error.pgconn.used_password or error.pgconn.needs_password)


def sessions_ended(connection: psycopg.Connection[Any]) -> int:
    """How many sessions of this database the server or the network has ended so far, by the server's own count."""
    row = connection.execute(SESSIONS_ENDED).fetchone()
    return int(row[0]) if row else 0


def connecting() -> Retrying:
    """Tries for some seconds to connect to a server that does not take connections just now."""
    return Retrying(
        retry=retry_if_exception(_may_be_there_in_a_moment),
        wait=wait_exponential(multiplier=0.1, max=1),
        stop=stop_after_delay(4),
        reraise=True,
    )


def whole_runs(tell: Callable[[str], object]) -> Retrying:
    """Begins a run again that lost its connection: after 1, 2 and 4 seconds. `tell` is told of each time.

    A run can be begun again at any time without doubling a row: staging is made anew, history and production change by
    whole transactions, and what they have done is seen in the ledger.
    """

    def say(state: RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0
        tell(f"the connection to the database was lost: beginning again in {seconds:.0f} s")

    return Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, ConnectionLost)),
        wait=wait_exponential(multiplier=1, max=8),
        stop=stop_after_attempt(4),
        before_sleep=say,
        reraise=True,
    )


def failure(month: str, reason: str, error: psycopg.Error) -> SurroundingsFailed:
    """The sentence for a run that the database failed, and what to do next."""
    if error.sqlstate == DISK_FULL:
        advice = f"The database's disk is full: make room, then ingest month {month} again. Nothing is half done."
        return SurroundingsFailed(f"the database failed: {reason}\n{advice}")
    again = f"Nothing is half done: ingest month {month} again when the database is back."
    kind = ConnectionLost if is_lost(error) else SurroundingsFailed
    return kind(f"the database failed: {reason}\n{again}")
