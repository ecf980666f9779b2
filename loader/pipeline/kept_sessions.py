"""dbt's sessions, kept from one node to the next: dbt-postgres opens a hundred of them, one for each node."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

AS_NEW = "discard temp; discard sequences; unlisten *; select pg_advisory_unlock_all(); reset all; set role {}"
"""`set role` begins the settings of each session; `profiles.yml` says what they are."""


@contextlib.contextmanager
def sessions_kept() -> Iterator[None]:
    """Inside, a thread of dbt keeps its session, and the next node finds it as it is when it is opened."""
    from dbt.adapters.postgres import PostgresAdapter, PostgresConnectionManager

    as_new = set[int]()  # the sessions that nobody has used since: dbt releases each of them twice

    class KeepsSessions(PostgresConnectionManager):  # type: ignore[misc]
        def set_connection_name(self, name: str | None = None) -> Any:
            connection = super().set_connection_name(name)
            as_new.discard(id(connection))
            return connection

        def release(self) -> None:
            connection = self.get_if_exists()
            if connection is None or connection.state != "open" or id(connection) in as_new:
                return
            try:
                connection.handle.rollback()
                connection.handle.cursor().execute(AS_NEW.format(connection.credentials.role or "none"))
                connection.handle.rollback()
                connection.transaction_open = False
                as_new.add(id(connection))
            except Exception:  # whatever it is, a new session does not have it
                super().release()

    opens_anew = PostgresAdapter.ConnectionManager
    PostgresAdapter.ConnectionManager = KeepsSessions
    try:
        yield
    finally:
        PostgresAdapter.ConnectionManager = opens_anew
