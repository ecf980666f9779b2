"""The steps as Python functions, for orchestrators and notebooks. What is in `__all__` is the public surface.

Each does what the command of the same name does, prints nothing, and returns a typed result. Where the command would
end with another exit code than 0, a function raises: `Refused` or `DataRefused` (1), `WrongUsage` (2),
`SurroundingsFailed` (3), `NotDelivered` (4) or `ModelsFailed` (5). Every one of them is a `StreamflowError` and carries its `exit_code`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from loader.database import Connection, open_database
from loader.delivery import find_delivery, parse_month
from loader.errors import DataRefused, ModelsFailed, NotDelivered, StreamflowError, SurroundingsFailed, WrongUsage
from loader.pipeline import ledger
from loader.pipeline.ingest import run_month
from loader.pipeline.outcome import Command, Outcome, Refused
from loader.pipeline.progress import Progress
from loader.readers import verification
from loader.readers.after_publish import after_publish
from loader.readers.verification import Verdict
from loader.settings import Settings, load_settings

__all__ = [
    "DataRefused",
    "ModelsFailed",
    "MonthState",
    "NotDelivered",
    "Outcome",
    "Refused",
    "Settings",
    "StreamflowError",
    "SurroundingsFailed",
    "Verdict",
    "WrongUsage",
    "check_month",
    "ingest_month",
    "last_month",
    "months",
    "verify",
]


@dataclass(frozen=True)
class MonthState:
    """What the ledger says of one date. `details` is all of it, as `streamflow status --json` has it."""

    month: str
    as_of: dt.date
    state: str
    details: dict[str, Any]


def ingest_month(
    month: int | str,
    data_dir: Path | str | None = None,
    as_of: dt.date | None = None,
    force: bool = False,
    restate: str | None = None,
    settings: Settings | None = None,
) -> Outcome:
    """Land, audit and publish one month: all of it or nothing.

    Args:
        month: its number, as 1 or "001".
        data_dir: the folder of months; that of the settings unless given.
        as_of: another date than the month's last day.
        force: audit and build again even where nothing is new.
        restate: the reason why a published month is to be replaced by other rows.
        settings: other settings than those of the environment and .env.

    Returns:
        An outcome whose `state` is "published", or "unchanged" where the month is there already from the same rows.

    Raises:
        Refused: the data is not taken; its `outcome` and `rejects` say why. Another attempt ends the same.
        ModelsFailed: the month is published, and a model or test that is built on it failed. Another attempt builds only that.
        NotDelivered: the month's folder or archive is not there yet.
        SurroundingsFailed: no database, another run under way, a full disk: the month can be ingested again as it is.
        WrongUsage: the arguments or the settings cannot work.
    """
    if restate is not None and not restate.strip():
        raise WrongUsage("restate is the reason why a published month is replaced: it cannot be empty.")
    return _run("ingest", month, data_dir, as_of, settings, force=force, restate=restate)


def check_month(
    month: int | str,
    data_dir: Path | str | None = None,
    as_of: dt.date | None = None,
    settings: Settings | None = None,
) -> Outcome:
    """Land and audit one month and publish nothing.

    Args and exceptions: as of `ingest_month`.

    Returns:
        An outcome whose `state` is "checked".
    """
    return _run("check", month, data_dir, as_of, settings)


def last_month(day: dt.date | None = None, settings: Settings | None = None) -> str:
    """The number of the month before the one that a day (today unless given) is in: what a monthly schedule ingests.

    Raises:
        WrongUsage: the first month of all was not over by then.
    """
    settings, day = settings or load_settings(), day or dt.date.today()
    number = settings.last_month(day)
    if number < 0:
        raise WrongUsage(
            f"no month was over by {day}: STREAMFLOW_FIRST_MONTH, which 000 is, is {settings.first_month}."
        )
    return f"{number:03d}"


def months(settings: Settings | None = None) -> list[MonthState]:
    """The months known, oldest date first; none in a new database.

    Raises:
        SurroundingsFailed, WrongUsage: as of `ingest_month`.
    """
    with _connection(settings) as connection:
        rows = ledger.months(connection) if ledger.exists(connection) else []
    return [MonthState(row["month"], row["as_of"], row["state"], row) for row in rows]


def verify(settings: Settings | None = None) -> list[Verdict]:
    """Prove that history is as it was written and that production follows from it.

    Returns:
        A verdict per history table and date, and per production table. Nothing is raised for one that is not `sound`.

    Raises:
        SurroundingsFailed, WrongUsage: as of `ingest_month`.
    """
    with _connection(settings) as connection:
        return list(verification.verify(connection)) if ledger.exists(connection) else []


def _run(
    command: Command,
    month: int | str,
    data_dir: Path | str | None,
    as_of: dt.date | None,
    settings: Settings | None,
    *,
    force: bool = False,
    restate: str | None = None,
) -> Outcome:
    settings = settings or load_settings()
    folder = None if data_dir is None else Path(data_dir)
    delivery = find_delivery(settings, parse_month(str(month)), folder, as_of)
    with _surroundings():
        outcome = run_month(settings, command, delivery, Progress(), force=force, restate=restate)
        if command == "ingest" and outcome.state == "published":
            list(after_publish(settings, outcome.as_of))
    if outcome.failed:
        raise ModelsFailed("; ".join([outcome.message, *(str(node) for node in outcome.failed)]))
    return outcome


@contextlib.contextmanager
def _connection(settings: Settings | None) -> Iterator[Connection]:
    with _surroundings(), open_database(settings or load_settings()).connect() as connection:
        yield connection


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """What the command line ends with exit code 3 for is one exception here."""
    try:
        yield
    except psycopg.Error as error:
        raise SurroundingsFailed(f"the database says: {str(error).strip()}") from error
    except OSError as error:
        raise SurroundingsFailed(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error
