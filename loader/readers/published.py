"""Which months are published, from the view that readers may query too."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from loader import ledger
from loader.contract.tables import Table
from loader.database import Connection
from loader.delivery import parse_month
from loader.errors import WrongUsage

MONTHS = """
select month, as_of, previous_as_of, load_id, published_at, archived_in from public.published_months order by as_of
"""
THERE = """
select relname from pg_class
where relnamespace = 'public'::regnamespace and relname = any(%s) and has_table_privilege(oid, 'select') order by 1
"""


@dataclass(frozen=True)
class PublishedMonth:
    """A published month, the date of the newest earlier one that is not archived, and its archive folder, if any."""

    month: str
    as_of: dt.date
    previous_as_of: dt.date | None
    load_id: int
    published_at: dt.datetime
    archived_in: str | None


def published_months(connection: Connection) -> list[PublishedMonth]:
    """All published months, oldest date first; empty if nothing was ever ingested.

    Raises:
        SurroundingsFailed: the database is one of an earlier version.
    """
    try:
        with connection.transaction(), connection.cursor(row_factory=class_row(PublishedMonth)) as cursor:
            return cursor.execute(MONTHS).fetchall()
    except psycopg.errors.UndefinedTable:
        return []
    except psycopg.errors.UndefinedColumn:
        ledger.exists(connection)  # raises if another version made all of this
        raise


@contextmanager
def undisturbed(connection: Connection, tables: Sequence[Table], *, read_only: bool = True) -> Iterator[None]:
    """A transaction during which no month is restated or archived. Find months and read them within it, not before.

    Both replace partitions. A query that waits for that has a snapshot from before it, and would find no rows in the
    new partition; so the locks come before the snapshot.
    """
    names = [f"{table.name}_snapshots" for table in tables]
    there = [name for (name,) in connection.execute(THERE, [names]).fetchall()]
    with connection.transaction():
        if read_only:
            connection.execute("set transaction isolation level repeatable read, read only")
        if there:
            listed = sql.SQL(", ").join(sql.SQL("only {}").format(sql.Identifier("public", name)) for name in there)
            connection.execute(sql.SQL("lock table {} in access share mode").format(listed))
        yield


def find(connection: Connection, text: str) -> PublishedMonth:
    """Find a published month by number, like 001, or by date, like 2024-02-29 or 2024-02.

    Raises:
        WrongUsage: the month is archived or not published, or several match; the message says what to do.
    """
    months = published_months(connection)
    what, found = _chosen(months, text)
    if len(found) > 1:
        dates = ", ".join(str(month.as_of) for month in found)
        raise WrongUsage(f"{what} is published for several dates: {dates}. Give one of these instead.")
    if not found:
        known = ", ".join(f"{month.month} ({month.as_of})" for month in months)
        raise WrongUsage(
            f"{what} is not published{', or is being restated' if known else ''}."
            f" There {f'are: {known}' if known else 'is none: streamflow ingest 000'}."
        )
    if folder := found[0].archived_in:
        date = found[0].as_of
        raise WrongUsage(f"{what} is archived in {folder}: `streamflow archive --restore {date}` brings it back.")
    return found[0]


def is_comparable(month: PublishedMonth, months: Sequence[PublishedMonth]) -> bool:
    """Whether an earlier one of all `months` can be read, or there is none."""
    return month.previous_as_of is not None or month == months[0]


def _chosen(months: list[PublishedMonth], text: str) -> tuple[str, list[PublishedMonth]]:
    if found := [month for month in months if f"{month.as_of:%Y-%m}" == text.strip()]:
        return f"a month as of {text.strip()}", found
    try:
        date = dt.date.fromisoformat(text.strip())
    except ValueError:
        label = f"{parse_month(text):03}"
        return f"month {label}", [month for month in months if month.month == label]
    return f"a month as of {date}", [month for month in months if month.as_of == date]
