"""What may keep streamflow from working here: looked at, one finding each, nothing changed and nothing started."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from dotenv import dotenv_values

from loader.contract.models import IN_STEP, out_of_step
from loader.contract.packages import audit_package
from loader.contract.tables import load_contract
from loader.database import Connection, Database, blockers, statement
from loader.delivery import months_in
from loader.pipeline.declared import require_unchanged
from loader.project import VARIABLE, project
from loader.readers import months as known
from loader.readers import oncall
from loader.readers.roles import relations
from loader.readers.running import running_database
from loader.settings import Settings, load_settings

PREFIXES = ("POSTGRES_", "STREAMFLOW_")
OTHERS = {"POSTGRES_PUBLISHED_PORT", "STREAMFLOW_TARGET", VARIABLE}
"""Variables that have a meaning and are no settings of the command line; nor are those of the tests."""
OLDEST, NEWEST = 16, 18
STOPPED = "the embedded server is stopped; any command that needs it, or `db start`, starts it"
TIMES, LEAST = 10, 200 * 10**6
"""A month needs ten times the size of its files on disk: staging, history, production, their log and indexes."""


Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What one check found, and for a warning or a problem what to do."""

    check: str
    level: Level
    message: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Every check in turn; a check that cannot be made is a problem itself, and the next one is made all the same."""
    yield from _findings("variables", _variables)
    yield from _findings("dbt packages", _packages)
    yield from _findings("models", _models)
    settings = list(_findings("settings", _settings))
    yield from settings
    if settings[0].level == "ok":
        yield from _findings("disk", _disk)
        database = running_database(load_settings())
        reached = list(_findings("database", lambda: _database(database)))
        yield from reached
        if database and reached[0].level != "problem":
            with database.connect() as connection:
                connection.execute("set default_transaction_read_only = on")
                yield from _findings("rights", lambda: _rights(connection))
                yield from _findings("locks", lambda: _locks(connection))
                yield from _findings("months", lambda: _months(connection))
                yield from _findings("declaration", lambda: _declaration(connection))


Found = Iterator[tuple[Level, str, str]]


def _findings(check: str, look: Callable[[], Found]) -> Iterator[Finding]:
    try:
        for found in look():
            yield Finding(check, *found)
    except Exception as error:
        first, *rest = str(error).strip().splitlines() or [type(error).__name__]
        yield Finding(check, "problem", first, " ".join(rest))


def _variables() -> Found:
    known = OTHERS | {str(field.validation_alias) for field in Settings.model_fields.values()}
    file = project().root / ".env"
    given = dict.fromkeys(os.environ, "the environment") | dict.fromkeys(dotenv_values(file), str(file))
    unknown = [name for name in given if name.startswith(PREFIXES) and name not in known and "_TEST_" not in name]
    for name in sorted(unknown):
        near = difflib.get_close_matches(name, sorted(known), 1, 0.7)
        remedy = f"did you mean {near[0]}?" if near else "docs/settings.md has those there are"
        yield "warning", f"{name} in {given[name]} is no setting and has no effect", remedy
    if not unknown:
        yield "ok", "every STREAMFLOW_ and POSTGRES_ variable is a setting", ""


def _settings() -> Found:
    load_settings()
    yield "ok", "every one can be used", ""


def _packages() -> Found:
    if package := audit_package():
        yield "ok", f"{package} is installed", ""
    else:
        yield "problem", "dbt_expectations is not installed", "streamflow setup"


def _models() -> Found:
    if stale := "; ".join(out_of_step(load_contract())):
        yield "warning", f"out of step with the contract: {stale}", IN_STEP
    else:
        yield "ok", "in step with the contract", ""


def _declaration(connection: Connection) -> Found:
    require_unchanged(connection, load_contract())
    yield "ok", "the tables have the columns that are declared, or will get them", ""


def _disk() -> Found:
    settings = load_settings()
    months = months_in(settings.data_dir)
    sizes = [sum(file.lstat().st_size for file in (month, *month.rglob("*"))) for month in months]
    needed = max(LEAST, TIMES * max(sizes, default=0))
    place = settings.home.resolve() / "pgdata"
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    text = f"{free / 1e9:,.1f} GB free in {there}; a month needs about {needed / 1e9:,.1f}"
    if not os.access(there, os.W_OK):
        yield "problem", f"{there} cannot be written to", "set STREAMFLOW_HOME to another folder"
    elif free < needed:
        remedy = "make room, or set STREAMFLOW_HOME to a folder on a larger disk"
        yield "problem" if free < LEAST else "warning", text, remedy
    else:
        yield "ok", text, ""


def _database(database: Database | None) -> Found:
    if database is None:
        yield "ok", STOPPED, ""
        return
    with database.connect() as connection:
        where = "the embedded one" if database.embedded else f"at {database.uri}"
        text = f"PostgreSQL {connection.info.parameter_status('server_version')}, {where}"
        version = connection.info.server_version // 10000
    wrong = f"streamflow is tested on PostgreSQL {OLDEST} to {NEWEST}"
    if OLDEST <= version <= NEWEST:
        yield "ok", text, ""
    else:
        yield "problem" if version < OLDEST else "warning", text, wrong


def _rights(connection: Connection) -> Found:
    parameters = {"relations": relations(load_contract())}
    lacking = connection.execute(statement(__file__, "rights"), parameters).fetchall()
    for message, remedy in lacking:
        yield "problem", message, remedy
    if not lacking:
        yield "ok", "the role may create what is missing and owns what is there", ""


def _locks(connection: Connection) -> Found:
    waited_for = blockers(connection)
    for who, remedy in waited_for:
        yield "warning", f"a run waits for {who}", f"wait for it to end, or as its role or a superuser: {remedy}"
    if not waited_for:
        yield "ok", "no run waits for a lock of somebody else", ""


def _months(connection: Connection) -> Found:
    months = known.months(connection)
    running = oncall.under_way(connection)
    left = oncall.unfinished(months, running)
    for month in left:
        text = f"the last attempt at month {month['month']} (as of {month['as_of']}) {oncall.why(month)}"
        begun = month["state"] == "not finished" and not month["whole"]
        give_up = f", or give it up: streamflow abandon {month['month']}" if begun else ""
        yield "warning", text, f"streamflow ingest {month['month']}{give_up}"
    failed = [month for month in months if month["failed_nodes"]]
    for month in failed:
        text = f"failed after month {month['month']} was published: {', '.join(month['failed_nodes'])}"
        yield "warning", text, f"streamflow ingest {month['month']}"
    if running:
        yield "ok", f"under way: {running}", ""
    elif not left and not failed:
        yield "ok", f"{sum(month['state'] == 'published' for month in months)} published, none left unfinished", ""
