"""Keeps dbt's sessions from node to node, as dbt-postgres would open about a hundred, and rows out of their errors."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

AS_NEW = "discard temp; discard sequences; unlisten *; select pg_advisory_unlock_all(); reset all; set role {}"
"""Resets a session. The role in profiles.yml carries all session settings, so `set role {}` sets them again."""


@contextlib.contextmanager
def sessions_kept() -> Iterator[Collection[str]]:
    """Inside, each dbt thread keeps its session, and the next node finds it in the state of a new one.

    Errors that a row causes come without PostgreSQL's detail and context, which can hold the row: dbt's message goes to
    the ledger, to logs and to the terminal.

    Yields:
        The names of the nodes whose session ended before they did; it grows as dbt runs.
    """
    from dbt.adapters.postgres import PostgresAdapter, PostgresConnectionManager
    from dbt_common.exceptions import DbtDatabaseError
    from psycopg2 import DataError, IntegrityError  # type: ignore[import-untyped]

    lost = set[str]()
    as_new = set[int]()  # sessions reset and not used since: dbt releases each of them twice

    class KeepsSessions(PostgresConnectionManager):  # type: ignore[misc]
        @contextlib.contextmanager
        def exception_handler(self, sql: str) -> Iterator[None]:
            try:
                with super().exception_handler(sql):
                    yield
            except DbtDatabaseError as error:
                cause = error.__cause__
                if isinstance(cause, DataError | IntegrityError) and cause.diag.message_primary:
                    said = filter(None, [cause.diag.message_primary, cause.diag.message_hint])
                    raise DbtDatabaseError("\n".join(said)) from None
                raise

        def set_connection_name(self, name: str | None = None) -> Any:
            connection = super().set_connection_name(name)
            as_new.discard(id(connection))
            return connection

        def release(self) -> None:
            connection = self.get_if_exists()
            if connection is None or connection.state != "open" or id(connection) in as_new:
                return
            if connection.handle.closed:
                lost.add(connection.name)
            try:
                connection.handle.rollback()
                connection.handle.cursor().execute(AS_NEW.format(connection.credentials.role or "none"))
                connection.handle.rollback()
                connection.transaction_open = False
                as_new.add(id(connection))
            except Exception:  # close the session: the next node opens a new one
                super().release()

    opens_anew = PostgresAdapter.ConnectionManager
    PostgresAdapter.ConnectionManager = KeepsSessions
    try:
        yield lost
    finally:
        PostgresAdapter.ConnectionManager = opens_anew
