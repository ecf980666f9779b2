"""What a database that goes away for a moment does to a run, and how long one waits for it to come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import tenacity

from loader.errors import REMAKE, SurroundingsFailed

ENDED_BY_THE_SERVER = {"57P01", "57P02", "57P03", "57P05"}
"""SQLSTATEs of sessions that an administrator, a crash or a restart ended; class 08 is the network's."""

PATIENCE = 4
"""Seconds that a server is given which does not answer at all."""


class NotConnected(SurroundingsFailed):
    """The server cannot be reached, or lets nobody in."""


class ConnectionLost(SurroundingsFailed):
    """The connection went away in the middle of a run; the run may be begun again."""


def _may_be_there_in_a_moment(error: BaseException) -> bool:
    """Whether the server did not come as far as to judge a password."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.pgconn is None or not (error.pgconn.used_password or error.pgconn.needs_password)


def sessions_ended(connection: psycopg.Connection[Any]) -> int:
    """How many sessions of this database the server or the network has ended so far, by the server's own count."""
    row = connection.execute(
        "select sessions_abandoned + sessions_fatal + sessions_killed from pg_stat_database"
        " where datname = current_database()"
    ).fetchone()
    return int(row[0]) if row else 0


def connecting(recovers: Callable[[], bool]) -> tenacity.Retrying:
    """Tries for some seconds to connect, and for as long as the server says that it starts or recovers."""

    def is_in_vain(state: tenacity.RetryCallState) -> bool:
        return (state.seconds_since_start or 0) > PATIENCE and not recovers()

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_be_there_in_a_moment),
        wait=tenacity.wait_exponential(multiplier=0.1, max=1),
        stop=is_in_vain,
        reraise=True,
    )


def whole_runs(tell: Callable[[str], object]) -> tenacity.Retrying:
    """Begins a run again that lost its connection: after 1, 2 and 4 seconds. `tell` is told of each time.

    A run can be begun again at any time without doubling a row: staging is made anew, history and production change by
    whole transactions, and what they have done is seen in the ledger.
    """

    def say(state: tenacity.RetryCallState) -> None:
        tell(f"the connection to the database was lost: beginning again in {state.upcoming_sleep:.0f} s")

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ConnectionLost),
        wait=tenacity.wait_exponential(multiplier=1, max=8),
        stop=tenacity.stop_after_attempt(4),
        before_sleep=say,
        reraise=True,
    )


@contextmanager
def telling_lost(month: str, *, was_there: bool) -> Iterator[None]:
    """Raise ConnectionLost for what is raised inside once a session is gone, and all else as it is.

    Args:
        was_there: whether a server that cannot be reached was there a moment ago.
    """
    try:
        yield
    except psycopg.Error as error:
        raise failure(month, error) if _is_lost(error) else error from None
    except NotConnected as error:
        raise ConnectionLost(str(error)) if was_there else error from None


def _is_lost(error: psycopg.Error) -> bool:
    code = error.sqlstate or "08000"  # an error without a code is the client's own, of the connection
    ended = code in ENDED_BY_THE_SERVER or code.startswith("08")
    return ended and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def reason(error: psycopg.Error) -> str:
    """What the server, or the client, gives as the reason, without its context."""
    return (error.diag.message_primary or str(error)).strip()


def failure(month: str, error: psycopg.Error) -> SurroundingsFailed:
    """The sentence for a run that the database failed, and what to do next; ConnectionLost if the session is gone."""
    if isinstance(error, psycopg.errors.DiskFull):
        advice = f"The database's disk is full: make room, then ingest month {month} again. Nothing is half done."
    elif isinstance(error, psycopg.errors.InsufficientPrivilege):
        advice = "As a superuser, `streamflow init --roles` gives the roles what they lack, and the loader the tables."
    elif isinstance(error, psycopg.errors.UndefinedTable):
        advice = f"{REMAKE} Nothing is half done."
    else:
        advice = f"Nothing is half done: ingest month {month} again when the database is back."
    kind = ConnectionLost if _is_lost(error) else SurroundingsFailed
    return kind(f"the database failed: {reason(error)}\n{advice}")
