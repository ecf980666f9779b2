"""What the shell completes: months and tables. Quick, silent, and never starts a server."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from loader.contract.tables import load_contract
from loader.delivery import months_in
from loader.readers.published import published_months
from loader.readers.running import running_database
from loader.settings import load_settings


def months(incomplete: str) -> list[str]:
    """The months in the data folder; after `000..` the last ones of a range."""
    first, dots, last = incomplete.rpartition("..")
    with suppress(Exception):  # whatever is wrong, a shell's prompt is no place to say so
        labels = dict.fromkeys(months_in(load_settings().data_dir).values())
        return [f"{first}{dots}{label}" for label in labels if label.startswith(last)]
    return []


def published(incomplete: str) -> list[str]:
    """The published months, where a server runs and answers at once; else those in the data folder."""
    limit = "-c statement_timeout=1s"
    with suppress(Exception):
        if there := running_database(load_settings()):
            with psycopg.connect(there.uri, password=there.password, connect_timeout=1, options=limit) as connection:
                found = {month.month for month in published_months(connection)}
            return sorted(month for month in found if month.startswith(incomplete)) or months(incomplete)
    return months(incomplete)


def tables(incomplete: str) -> list[str]:
    """The declared tables."""
    with suppress(Exception):
        return [table.name for table in load_contract() if table.name.startswith(incomplete)]
    return []
