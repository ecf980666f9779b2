"""The commands as Python functions, for orchestrators and notebooks. `__all__` lists the public surface.

Each function does what its command does, prints nothing, and returns a typed result; its steps go to the logger
"streamflow". If the command's exit code would not be 0, the function raises an error: `Refused` or `DataRefused`
(1), `WrongUsage` or `WrongDeclaration` (2), `SurroundingsFailed` (3), `NotDelivered` (4) or `ModelsFailed` (5). Each of
these is a `StreamflowError` and carries its `exit_code`. `verify` instead returns its verdicts, also bad ones.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import psycopg

from loader import ledger
from loader.contract.tables import load_contract
from loader.database import open_database
from loader.delivery import find_delivery, parse_month
from loader.errors import (
    DataRefused,
    ModelsFailed,
    NotDelivered,
    StreamflowError,
    SurroundingsFailed,
    WrongDeclaration,
    WrongUsage,
    complaint,
)
from loader.ledger import chain
from loader.pipeline.dbt import environment_kept
from loader.pipeline.ingest import run_months
from loader.pipeline.outcome import Outcome, Refused, Request
from loader.pipeline.progress import Progress
from loader.project import project
from loader.readers import manifest as manifests
from loader.readers import verification
from loader.readers.after_publish import after_publish
from loader.readers.verification import Verdict
from loader.settings import Settings, load_settings
from loader.upkeep import abandon
from loader.upkeep import migrate as migration
from loader.upkeep.abandon import Abandoned
from loader.upkeep.migrate import Migrated

__all__ = [
    "Abandoned", "DataRefused", "Migrated", "ModelsFailed", "NotDelivered", "Outcome", "Refused",
    "Settings", "StreamflowError", "SurroundingsFailed", "Verdict", "WrongDeclaration", "WrongUsage", "abandon_month",
    "check_month", "ingest_month", "last_month", "migrate", "verify",
]  # fmt: skip


_ONE_AT_A_TIME = threading.RLock()
"""dbt reads project and database from the environment, which all threads share, so calls run one at a time."""


def ingest_month(
    month: int | str,
    data_dir: Path | str | None = None,
    as_of: dt.date | None = None,
    force: bool = False,
    restate: str | None = None,
    settings: Settings | None = None,
    waive: Mapping[str, str] | None = None,
) -> Outcome:
    """Land, audit and publish a whole month or nothing: the state is "published", or "unchanged" if it already was.

    Args:
        month: its number, as 1 or "001".
        data_dir: the folder of months, or its address; by default that of the settings.
        as_of: the date of the month, by default its last day.
        force: audit and build again even if nothing is new.
        restate: the reason for replacing a published month by other rows.
        settings: settings to use in place of those of the environment and .env.
        waive: the names of audits that only warn, each with the reason.

    Raises:
        Refused: the data is refused; `outcome` and `rejects` say why. A retry with the same data ends the same.
        ModelsFailed: the month is published, but something made from it failed. A retry makes only that.
        NotDelivered: the month's folder or archive is not there yet.
        SurroundingsFailed: no database, another run under way, a full disk: the month can be ingested again as it is.
        WrongUsage: the arguments or the settings cannot work.
        WrongDeclaration: an audit cannot run as it is declared.
    """
    if restate is not None and not restate.strip():
        raise WrongUsage("restate is the reason why a published month is replaced: it cannot be empty.")
    if not all(reason.strip() for reason in (waive or {}).values()):
        raise WrongUsage("waive has the reason why each audit is waived: it cannot be empty.")
    outcome = _run(Request("ingest", force, restate, waive or {}), month, data_dir, as_of, settings)
    if outcome.failed:
        raise ModelsFailed("; ".join([outcome.message, *(str(node) for node in outcome.failed)]))
    return outcome


def check_month(
    month: int | str,
    data_dir: Path | str | None = None,
    as_of: dt.date | None = None,
    settings: Settings | None = None,
) -> Outcome:
    """Land and audit one month and publish nothing: the state is "checked". All else is as in `ingest_month`."""
    return _run(Request("check"), month, data_dir, as_of, settings)


def abandon_month(month: int | str, as_of: dt.date | None = None, settings: Settings | None = None) -> Abandoned:
    """Give up a month that was begun but not published; `message` says how the database stands afterwards.

    Raises:
        WrongUsage: nothing was begun, the month is published, or a later one was built on it.
        SurroundingsFailed: another run is under way.
    """
    with _surroundings():
        settings = _current(settings)
        return abandon.abandon(settings, find_delivery(settings, parse_month(str(month), settings), as_of=as_of))


def migrate(dry_run: bool = False, settings: Settings | None = None) -> Migrated:
    """Change the tables to follow a declaration that widens or renames columns: all of it or nothing.

    Args:
        dry_run: only return what would be changed.
        settings: settings to use in place of those of the environment and .env.

    Raises:
        WrongUsage: the declaration asks for an impossible change, or months of a changed table are archived.
        SurroundingsFailed: another run is under way, history differs from the ledger, or a view, key or role blocks it.
    """
    with _surroundings():
        return migration.migrate(_current(settings), dry_run=dry_run)


def last_month(day: dt.date | None = None, settings: Settings | None = None) -> str:
    """The number of the last month that ended before the month of `day` (default: today), for monthly schedules.

    Raises:
        WrongUsage: not even the first month was over on that day.
    """
    settings, day = _current(settings), day or dt.date.today()
    number = settings.number_of(day.year, day.month) - 1
    if number < 0:
        first = settings.first_month
        raise WrongUsage(f"no month had ended by {day}: month 000 is {first} (STREAMFLOW_FIRST_MONTH).")
    return f"{number:03d}"


def verify(settings: Settings | None = None, manifest: Path | None = None) -> list[Verdict]:
    """Prove that history is as it was written and that production follows from it: a verdict per table and date.

    A verdict that is not `sound` raises nothing; SurroundingsFailed and WrongUsage are as in `ingest_month`.

    Args:
        manifest: a file with the links of the chain so far. New links are appended to it if all verdicts are sound.
    """
    with _surroundings(), open_database(_current(settings)).connect() as connection:
        links = chain.links(connection) if ledger.exists(connection) else []
        verdicts = list(manifests.compare(manifest, links)) if manifest else []
        verdicts = [*verification.verify(connection, load_contract()), *verdicts]
        if manifest and all(verdict.sound for verdict in verdicts):
            added = manifests.extend(manifest, links)
            verdicts += [Verdict("manifest", None, len(links), True, f"added to it: {line}") for line in added]
    return verdicts


def _run(
    request: Request, month: int | str, data_dir: Path | str | None, as_of: dt.date | None, settings: Settings | None
) -> Outcome:
    with _surroundings(), environment_kept(), contextlib.closing(Progress()) as progress:
        settings = _current(settings)
        delivery = find_delivery(settings, parse_month(str(month), settings), data_dir, as_of)
        [outcome] = run_months(settings, request, [delivery], progress, partial(after_publish, settings))
    return outcome


def _current(settings: Settings | None) -> Settings:
    """The given settings, or those of environment, .env and current folder as they are now, not at an earlier call."""
    project.cache_clear()
    load_settings.cache_clear()
    return settings or load_settings()


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """Turn errors of the database and the operating system into SurroundingsFailed; let in one thread at a time."""
    try:
        with _ONE_AT_A_TIME:
            yield
    except (psycopg.Error, OSError) as error:
        raise SurroundingsFailed(complaint(error)) from error
