"""The database where it runs already, for those that start nothing and make nothing."""

from __future__ import annotations

from loader.database import Database, open_database, server
from loader.settings import Settings


def running_database(settings: Settings) -> Database | None:
    """The database that the settings name; None where it is the embedded one and does not run."""
    if not settings.embedded:
        return open_database(settings)
    socket = server.socket_directory(settings.home)
    return Database(str(socket), 5432, server.USER, settings.database, None, embedded=True) if socket else None
