"""What the shell completes: months and tables. Quick, silent, and never starts a server."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import psycopg

from loader.contract.tables import load_contract
from loader.readers.published import published_months
from loader.readers.running import running_database
from loader.settings import load_settings

MONTH = re.compile(r"month_(\d{3,})(?:\.zip)?", re.ASCII)


def labels(data_dir: Path) -> list[str]:
    """The months that are in a folder."""
    names = [path.name for path in data_dir.glob("month_*")]
    return sorted({found[1] for name in names if (found := MONTH.fullmatch(name))})


def months(incomplete: str) -> list[str]:
    """The months in the data folder; after `000..` the last ones of a range."""
    first, dots, last = incomplete.rpartition("..")
    with suppress(Exception):  # whatever is wrong, a shell's prompt is no place to say so
        return [f"{first}{dots}{label}" for label in labels(load_settings().data_dir) if label.startswith(last)]
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
