"""Which months are published, as readers may ask it too."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import psycopg

from loader.database import Connection
from loader.errors import WrongUsage


def published_dates(connection: Connection) -> list[dt.date]:
    """The as_of dates of all published months, oldest first."""
    try:
        return [
            date for (date,) in connection.execute("select as_of from public.published_months order by 1").fetchall()
        ]
    except psycopg.errors.UndefinedTable:
        return []


def require_published(connection: Connection, dates: Iterable[dt.date]) -> None:
    """Go on only where these dates are published.

    Raises:
        WrongUsage: one is not; the message says which are.
    """
    there = published_dates(connection)
    for date in dates:
        if date not in there:
            months = f"Published are {', '.join(map(str, there))}." if there else "No month is: streamflow ingest 000."
            raise WrongUsage(f"no month is published as of {date}. {months}" if there else f"{date}: {months}")
