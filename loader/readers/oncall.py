"""The first lines of `status`: what somebody who was woken up asks before anything else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

from loader.database import Connection
from loader.pipeline import ledger
from loader.readers.warnings import waived, warned
from loader.words import counted


def under_way(connection: Connection) -> str | None:
    """Who runs an ingest, a check or dbt on this database now; None where nobody does."""
    return ledger.holder(connection) if ledger.lock_is_held(connection) else None


def unfinished(months: Sequence[dict[str, Any]], running: str | None) -> list[dict[str, Any]]:
    """The months that an attempt began and none ended; while somebody runs, only those that were cut off before."""
    cut_off = {"interrupted", "failed"} if running else {"running", "interrupted", "failed"}
    return [
        month
        for month in months
        if month["last_attempt"] in cut_off or (month["state"] == "not finished" and not running)
    ]


def headlines(connection: Connection, months: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Newest month and its age, what runs, what was left unfinished or refused, which audits warned."""
    running = under_way(connection)
    published = [month for month in months if month["state"] == "published"]
    if published:
        newest = published[-1]
        days = (dt.datetime.now(dt.timezone.utc).date() - newest["as_of"]).days
        published_at = f"published {newest['published_at']:%Y-%m-%d %H:%M} UTC"
        yield f"newest: {newest['month']}, as of {newest['as_of']} ({counted(days, 'day')} old), {published_at}"
    else:
        yield "newest: no month is published yet"
    yield f"under way: {running or 'nothing'}"
    for month in unfinished(months, running):
        yield f"unfinished: {month['month']}, whose last attempt {why(month)}: streamflow ingest {month['month']}"
    for month in months:
        if month["last_attempt"] == "refused":
            yield f"refused: {month['month']}; have its files corrected, see streamflow check {month['month']}"
    for month in months:
        if month["warnings"]:
            found = "; ".join(warned(month["warnings"]))
            yield f"audits warned: {month['month']}, {month['audits_warned']} of them: {found}"
        yield from (f"waived: {month['month']}, {waived(waiver)}" for waiver in month["waivers"])


def why(month: dict[str, Any]) -> str:
    """How the last attempt at a month ended that did not finish."""
    if month["last_attempt"] in {"running", "interrupted"}:
        return "was cut off"
    if month["last_attempt"] != "failed":
        return "left it begun and not published"
    return f"failed ({month['error'].splitlines()[0]})" if month["error"] else "failed"
