"""What the ledger says about each month, and the status lines that somebody on call needs first."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row

from loader import ledger
from loader.database import Connection, statement
from loader.delivery import find_delivery
from loader.errors import FINISH
from loader.settings import load_settings
from loader.words import counted, some_of


def months(connection: Connection) -> list[dict[str, Any]]:
    """The newest attempt per as_of, and whether the month is published; oldest date first. Empty without a ledger."""
    if not ledger.exists(connection):
        return []
    return connection.cursor(row_factory=dict_row).execute(statement(__file__, "months")).fetchall()


def left_to_do(months: Sequence[dict[str, Any]], running: str | None) -> Iterator[tuple[str, str]]:
    """Unfinished work, and models or tests that failed after a publish, each with the command to run.

    During a run, leave out what it may be working on: running attempts, unfinished months, and lagging production.
    """
    for month in months:
        if month["state"] == "not finished" and running:
            continue
        yield from _unfinished(month, running)
        if failed := month["failed_nodes"]:
            yield f"failed: {some_of(failed)}, after {month['month']} was published", _ingest(month)


def _unfinished(month: Mapping[str, Any], running: str | None) -> Iterator[tuple[str, str]]:
    label, last = month["month"], month["last_attempt"]
    if month["state"] == "not finished":
        yield _begun(month)
    elif month["production_lags"] and not running:
        yield f"production is out of date: it has to take in {label} again", f"{_ingest(month)}, or {FINISH}"
    elif month["command"] == "check":  # it began nothing
        return
    elif how := _ended(month, running):
        yield f"unfinished: {label}, whose last attempt {how}", _again(month, month["restates"])
    elif month["was_displaced"] and last == "landed":
        yield f"unfinished: {label}, which staging no longer holds", _again(month, month["restates"], "land")


def _ended(month: Mapping[str, Any], running: str | None) -> str:
    """How the last attempt of a month ended; empty if it ended well, or goes on."""
    last, reason = month["last_attempt"], " ".join(map(str.strip, (month["error"] or "").splitlines()[:2]))
    if last == "failed":
        return f"failed ({reason})" if reason else "failed"
    return "was cut off" if last == "interrupted" or (last == "running" and not running) else ""


def _begun(month: Mapping[str, Any]) -> tuple[str, str]:
    """What is left of an unfinished month, and the commands that finish it or give it up."""
    what = "which was being restated" if month["published_at"] else "begun and not published"
    asked, ways = _asked(month), [_again(month, bool(month["published_at"]))]
    if month["whole"] or month["is_staged"]:
        ways.append(FINISH if month["whole"] else "streamflow dbt build")
    return f"not finished: {month['month']}, {what}", f"{', or '.join(ways)}; or give it up: streamflow abandon {asked}"


def _asked(month: Mapping[str, Any]) -> str:
    """The arguments that name a month, with --as-of if its date is not the usual one."""
    is_usual = month["month"] == load_settings().label_of(month["as_of"])
    return f"{month['month']}" if is_usual else f"{month['month']} --as-of {month['as_of']}"


def _ingest(month: Mapping[str, Any]) -> str:
    return f"streamflow ingest {_files(month)}"


def _again(month: Mapping[str, Any], restates: bool, command: str = "ingest") -> str:
    """The command that goes on with a month, with the options that its last attempt had."""
    options = " --restate" * restates + " --waive" * month["waives"]
    return f"streamflow {command} {_files(month)}" + (f" with{options}" if options else "")


def _files(month: Mapping[str, Any]) -> str:
    """The same arguments, plus --data-dir if the folder differs from the settings."""
    is_usual = month["data_dir"] == find_delivery(load_settings(), 0).origin
    return _asked(month) if is_usual else f"{_asked(month)} --data-dir {shlex.quote(month['data_dir'])}"


def headlines(connection: Connection, months: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Newest month and its age, the current run, unfinished and refused months, audits that warned or were waived."""
    running = ledger.holder(connection)
    published = [month for month in months if month["state"] == "published"]
    if published:
        newest = published[-1]
        days = (dt.datetime.now(dt.timezone.utc).date() - newest["as_of"]).days
        published_at = f"published {newest['published_at']:%Y-%m-%d %H:%M} UTC"
        yield f"newest: {newest['month']}, as of {newest['as_of']} ({counted(days, 'day')} old), {published_at}"
    else:
        yield "newest: no month is published yet"
    yield f"under way: {running or 'nothing'}"
    yield from map(": ".join, left_to_do(months, running))
    for month in months:
        label = month["month"]
        if month["last_attempt"] == "refused":
            stands = "; what is published stands, unless you --restate it" if month["published_at"] else ""
            yield f"refused: {label}; have its files corrected, see streamflow check {_files(month)}{stands}"
        if month["warnings"]:
            yield f"audits warned: {label}, {month['audits_warned']} of them: {'; '.join(warned(month['warnings']))}"
        yield from (f"waived: {label}, {waived(waiver)}" for waiver in month["waivers"])


def warned(audits: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One line per finding, with all tables that share it; then one line per audit that has only a number of failures.

    Args:
        audits: the audits that warned, each with `audit`, `table`, `column`, `failures` and `finding`.
    """
    tables: dict[str, list[str]] = {}
    for audit in audits:
        if audit["finding"]:
            tables.setdefault(audit["finding"], []).append(audit["table"])
    yield from (f"{', '.join(names)}: {finding}" for finding, names in tables.items())
    for audit in audits:
        if not audit["finding"]:
            where = f"{audit['table']}.{audit['column']}" if audit["column"] else audit["table"]
            yield f"{where}: {audit['audit']} warned: {audit['failures']:,}"


def waived(waiver: Mapping[str, Any]) -> str:
    """Who waived an audit, when and why; `waiver` has `audit`, `by`, `at` and `reason`."""
    at = dt.datetime.fromisoformat(waiver["at"][:16])
    return str(ledger.Waiver(waiver["audit"], waiver["reason"], waiver["by"], at))
