"""What settings ask for once a month is published: schemas of the past, old months archived, and the change report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from loader.contract.tables import load_contract
from loader.database import open_database
from loader.readers.freeze import freeze
from loader.readers.report import write_month
from loader.settings import Settings
from loader.upkeep import archive


def after_publish(settings: Settings, as_of: dt.date) -> Iterator[str]:
    """Do it; yields a line for each thing done."""
    if settings.freeze:
        with open_database(settings).connect() as connection:
            yield f"schema: {freeze(connection, load_contract(), as_of)}"
    if settings.keep_months:
        for done in archive.keep_newest(settings, settings.keep_months):
            yield f"archived: {done.as_of} in {done.folder}"
    if settings.report:
        path, *_ = write_month(settings, str(as_of))
        yield f"report: {path}"
