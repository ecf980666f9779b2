"""What the shell completes: months and tables. Quick, silent, and never starts a server."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

MONTH = re.compile(r"month_(\d{3,})(?:\.zip)?", re.ASCII)
PATIENCE = 1
"""Seconds that a server may take to answer."""


def months(incomplete: str) -> list[str]:
    """The months in the data folder; after `000..` the last ones of a range."""
    from loader.settings import load_settings

    first, dots, last = incomplete.rpartition("..")
    with suppress(Exception):  # whatever is wrong, a shell's prompt is no place to say so
        names = sorted({found[1] for path in _entries(load_settings().data_dir) if (found := MONTH.fullmatch(path))})
        return [f"{first}{dots}{name}" for name in names if name.startswith(last)]
    return []


def published(incomplete: str) -> list[str]:
    """The published months, where a server runs and answers at once; else those in the data folder."""
    with suppress(Exception):
        if found := _published():
            return [month for month in found if month.startswith(incomplete)]
    return months(incomplete)


def tables(incomplete: str) -> list[str]:
    """The declared tables."""
    with suppress(Exception):
        from loader.contract.tables import load_contract

        return [table.name for table in load_contract() if table.name.startswith(incomplete)]
    return []


def _entries(folder: Path) -> list[str]:
    return [path.name for path in folder.expanduser().iterdir()]


def _published() -> list[str]:
    import psycopg

    from loader.database import server
    from loader.settings import load_settings

    settings = load_settings()
    host, user, password = settings.host, settings.user, settings.password.get_secret_value()
    if host is None:
        socket = server.socket_directory(settings.home)
        if socket is None:
            return []
        host, user, password = str(socket), server.USER, ""
    with psycopg.connect(
        host=host, port=settings.port if settings.host else 5432, user=user, password=password,
        dbname=settings.database, connect_timeout=PATIENCE, options="-c statement_timeout=1s",
    ) as connection:  # fmt: skip
        query = "select distinct month from ops.loads where state = 'published' order by 1"
        return [str(month) for (month,) in connection.execute(query).fetchall()]
