"""What the shell completes: months and tables. Quick, silent, and never starts a server."""

from __future__ import annotations

import re
from contextlib import suppress

MONTH = re.compile(r"month_(\d{3,})(?:\.zip)?", re.ASCII)


def months(incomplete: str) -> list[str]:
    """The months in the data folder; after `000..` the last ones of a range."""
    from loader.settings import load_settings

    first, dots, last = incomplete.rpartition("..")
    with suppress(Exception):  # whatever is wrong, a shell's prompt is no place to say so
        names = [path.name for path in load_settings().data_dir.expanduser().iterdir()]
        labels = sorted({found[1] for name in names if (found := MONTH.fullmatch(name))})
        return [f"{first}{dots}{label}" for label in labels if label.startswith(last)]
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


def _published() -> list[str]:
    import psycopg

    from loader.readers.published import published_months
    from loader.readers.running import running_database
    from loader.settings import load_settings

    database = running_database(load_settings())
    if database is None:
        return []
    with psycopg.connect(
        database.uri, password=database.password, connect_timeout=1, options="-c statement_timeout=1s"
    ) as connection:
        return sorted({month.month for month in published_months(connection)})
