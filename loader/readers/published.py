"""Which months are published, as readers may ask it too."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from loader.database.connect import Connection
from loader.delivery.deliveries import parse_month
from loader.errors import WrongUsage

MONTHS = "select month, as_of, previous_as_of, load_id, published_at from public.published_months order by as_of"


@dataclass(frozen=True)
class PublishedMonth:
    """A month that readers see, and the date of the published one before it."""

    month: str
    as_of: dt.date
    previous_as_of: dt.date | None
    load_id: int
    published_at: dt.datetime


def published_months(connection: Connection) -> list[PublishedMonth]:
    """All published months, oldest date first; none where nothing was ever ingested."""
    try:
        with connection.cursor(row_factory=class_row(PublishedMonth)) as cursor:
            return cursor.execute(MONTHS).fetchall()
    except psycopg.errors.UndefinedTable:
        return []


def find(connection: Connection, text: str) -> PublishedMonth:
    """A published month, given as 001, or as its date where two have the same number.

    Raises:
        WrongUsage: it is not published, or not the only one of that number.
    """
    months = published_months(connection)
    try:
        date = dt.date.fromisoformat(text.strip())
    except ValueError:
        label = f"{parse_month(text):03}"
        found = [month for month in months if month.month == label]
    else:
        label, found = f"as of {date}", [month for month in months if month.as_of == date]
    if len(found) > 1:
        dates = ", ".join(str(month.as_of) for month in found)
        raise WrongUsage(f"month {label} is published for several dates: {dates}. Give one of these instead.")
    if not found:
        known = ", ".join(month.month for month in months)
        there = f"published: {known}" if known else "none is yet"
        raise WrongUsage(f"month {label} is not published ({there}). See streamflow status.")
    return found[0]


def require_published(connection: Connection, dates: Iterable[dt.date]) -> None:
    """Go on only where these dates are published.

    Raises:
        WrongUsage: one is not; the message says which are.
    """
    there = [month.as_of for month in published_months(connection)]
    known = f"Published are {', '.join(map(str, there))}." if there else "None is yet: streamflow ingest 000."
    if missing := [date for date in dates if date not in there]:
        raise WrongUsage(f"no month is published as of {missing[0]}. {known}")
