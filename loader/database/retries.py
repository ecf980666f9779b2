"""Retries: which errors mean that the database is gone, and how long a run waits for it to come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import tenacity

from loader.errors import REMEDIES, SurroundingsFailed, reason

ENDED_BY_THE_SERVER = {"57P01", "57P02", "57P03", "57P05"}
"""SQLSTATEs of sessions that an administrator, a crash, a restart or a timeout ended; network errors are class 08."""

PATIENCE = 4
"""Seconds to keep trying a server that does not answer at all."""


class NotConnected(SurroundingsFailed):
    """The server cannot be reached, or rejects the login."""


class ConnectionLost(SurroundingsFailed):
    """The connection was lost during a run; the run can be started again."""


def _may_recover(error: BaseException) -> bool:
    """Whether a retry may help: the connection failed before the server asked for a password."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.pgconn is None or not (error.pgconn.used_password or error.pgconn.needs_password)


def connecting(recovers: Callable[[], bool]) -> tenacity.Retrying:
    """Retries a connection for some seconds, and for as long as the server says that it starts or recovers."""

    def is_final(state: tenacity.RetryCallState) -> bool:
        return (state.seconds_since_start or 0) > PATIENCE and not recovers()

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_recover),
        wait=tenacity.wait_exponential(multiplier=0.1, max=1),
        stop=is_final,
        reraise=True,
    )


def retrying_runs(tell: Callable[[str], object]) -> tenacity.Retrying:
    """Restarts a run that lost its connection, after 1, 2 and 4 seconds; `tell` gets a message before each restart.

    A restart never duplicates rows: the run recreates staging, changes history and production in whole transactions,
    and reads in the ledger what is already done.
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
def reporting_lost(month: str, *, was_there: bool) -> Iterator[None]:
    """Turn errors of a lost session into ConnectionLost; raise all other errors unchanged.

    Args:
        was_there: whether the server could be reached a moment ago, so that NotConnected means ConnectionLost too.
    """
    try:
        yield
    except psycopg.Error as error:
        raise failure(month, error) if _is_lost(error) else error from None
    except NotConnected as error:
        raise ConnectionLost(str(error)) if was_there else error from None


def _is_lost(error: psycopg.Error) -> bool:
    code = error.sqlstate or "08000"  # the client's own connection errors have no code
    ended = code in ENDED_BY_THE_SERVER or code.startswith("08")
    return ended and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def failure(month: str, error: psycopg.Error) -> SurroundingsFailed:
    """The exception for a run that a database error ended, with what to do next; ConnectionLost for a lost session."""
    remedy, again = REMEDIES.get(type(error)), f"Nothing is half done: ingest month {month} again"
    advice = f"{remedy} {again}." if remedy else f"{again} when the database is back."
    kind = ConnectionLost if _is_lost(error) else SurroundingsFailed
    return kind(f"the database failed: {reason(error)}\n{advice}")
