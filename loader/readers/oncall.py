"""The first lines of `status`: what somebody who was woken up asks before anything else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from loader.database.connect import Connection
from loader.pipeline import ledger

UNFINISHED = {"running", "interrupted", "failed"}
"""States of an attempt that came to no verdict on the data; `running` only where no run holds the lock."""


def under_way(connection: Connection) -> str | None:
    """Who runs an ingest, a check or dbt on this database now; None where nobody does."""
    return ledger.holder(connection) if ledger.lock_is_held(connection) else None


def unfinished(months: Sequence[dict[str, Any]], running: str | None) -> list[dict[str, Any]]:
    """The months whose last attempt did not end."""
    return [
        month
        for month in months
        if month["last_attempt"] in UNFINISHED and not (running and month["last_attempt"] == "running")
    ]


def headlines(connection: Connection, months: Sequence[dict[str, Any]]) -> list[str]:
    """Newest month and its age, what runs, what was left unfinished or refused, which audits warned."""
    now = dt.datetime.now(dt.timezone.utc)
    running = under_way(connection)
    published = [month for month in months if month["state"] == "published"]
    lines = []
    if published:
        newest = published[-1]
        age = (now.date() - newest["as_of"]).days
        since = _ago(now - newest["published_at"])
        lines.append(f"newest: {newest['month']}, as of {newest['as_of']} ({age:,} days old), published {since} ago")
    else:
        lines.append("newest: no month is published yet")
    lines.append(f"under way: {running or 'nothing'}")
    for month in unfinished(months, running):
        ended = "was cut off" if month["last_attempt"] != "failed" else "failed"
        why = f" ({month['error'].splitlines()[0]})" if month["error"] and ended == "failed" else ""
        lines.append(
            f"unfinished: {month['month']}, whose last attempt {ended}{why}: streamflow ingest {month['month']}"
        )
    lines += [
        f"refused: {month['month']}; have its files corrected, see streamflow check {month['month']}"
        for month in months
        if month["last_attempt"] == "refused"
    ]
    lines += [
        f"audits warned: {month['month']}, {month['audits_warned']} of them"
        for month in months
        if month["audits_warned"]
    ]
    return lines


def _ago(age: dt.timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"
