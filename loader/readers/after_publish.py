"""What settings ask for after a publish: an as-of schema, the change report, and the archiving of old months."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import psycopg

from loader.contract.tables import load_contract
from loader.database import open_database, value
from loader.errors import complaint
from loader.pipeline.dbt import Node
from loader.pipeline.outcome import Outcome
from loader.pipeline.progress import log
from loader.readers.freeze import freeze, schema_of
from loader.readers.published import is_comparable, published_months
from loader.readers.report import page_of, write_month
from loader.settings import Settings
from loader.upkeep import archive


def after_publish(settings: Settings, outcome: Outcome) -> None:
    """Run these steps after an ingest, also those left undone by an earlier one. `outcome.failed` gets what fails."""
    if outcome.command != "ingest":
        return
    # archive last: the report compares with a month that archiving may remove
    for step, name in ((_schema, "schema"), (_reports, "report"), (_archived, "archive")):
        try:
            for line in step(settings, outcome):
                log.info(line)
        except Exception as error:
            said = complaint(error) if isinstance(error, (OSError, psycopg.Error)) else str(error).strip()
            outcome.failed.append(Node(f"of month {outcome.month}", name, "error", said or type(error).__name__))


def _schema(settings: Settings, outcome: Outcome) -> Iterator[str]:
    if not settings.freeze:
        return
    with open_database(settings).connect() as connection:
        is_there = value(connection, "select to_regnamespace(%s) is not null", [schema_of(outcome.as_of)])
        if is_there and outcome.state != "published":
            return
        if any(month.as_of == outcome.as_of and not month.archived_in for month in published_months(connection)):
            yield f"schema: {freeze(connection, load_contract(), outcome.as_of)}"


def _archived(settings: Settings, outcome: Outcome) -> Iterator[str]:
    if settings.keep_months:
        for done in archive.keep_newest(settings, settings.keep_months, published=outcome.state == "published"):
            yield f"archived: {done.as_of} in {done.folder}"


def _reports(settings: Settings, outcome: Outcome) -> Iterator[str]:
    """Rewrite existing pages of later months, as they compare with this one; its own comes last and marks success."""
    there = settings.home / "reports"
    if not settings.report or (outcome.state != "published" and any(there.glob(f"month_*_{outcome.as_of}.html"))):
        return
    pages = _pages_from(settings, outcome.as_of)
    if outcome.as_of in pages:
        for page in there.glob(f"month_*_{outcome.as_of}.html"):  # also one of another month for this date
            page.unlink()
    elif outcome.state != "published":
        return
    for date, page in reversed(pages.items()):
        if date == outcome.as_of or page.is_file():
            path, *_ = write_month(settings, str(date))
            yield f"report: {path}"


def _pages_from(settings: Settings, first: dt.date) -> dict[dt.date, Path]:
    """The pages of the months from that date on that can be read, whether they are written or not, by as_of."""
    with open_database(settings).connect() as connection:
        months = published_months(connection)
    readable = [month for month in months if not month.archived_in and is_comparable(month, months)]
    return {month.as_of: page_of(settings, month.month, month.as_of) for month in readable if month.as_of >= first}
