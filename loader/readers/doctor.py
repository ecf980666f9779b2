"""Checks for what may keep streamflow from working here. They change nothing and start no server."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic_settings import DotEnvSettingsSource

from loader import ledger
from loader.contract.declared import require_unchanged
from loader.contract.model_check import model_faults, remedy_for
from loader.contract.packages import audit_package, lacking
from loader.contract.tables import load_contract
from loader.database import Connection, Database, blockers, node_failure, running_database, statement, value
from loader.landing import require_same_customers
from loader.project import VARIABLE, model_files, project
from loader.readers import month_states
from loader.settings import Settings, load_settings
from loader.upkeep.roles import unexpected_creators

PREFIXES = ("POSTGRES_", "STREAMFLOW_")
OTHERS = {"POSTGRES_PUBLISHED_PORT", "STREAMFLOW_BIN", "STREAMFLOW_CRON", VARIABLE}
"""Known variables that are not settings. Variables of the tests, named _TEST_, are ignored too."""
OLDEST, NEWEST = 16, 18
STOPPED = "the embedded server is stopped; any command that needs it, or `db start`, starts it"
LEAST = 200 * 10**6
"""The least free bytes: with fewer, not even a small month fits."""

Level = Literal["ok", "warning", "problem"]
Found = Iterator[tuple[Level, str, str]]


@dataclass(frozen=True)
class Finding:
    """What one check found, and the remedy for a warning or a problem."""

    check: str
    level: Level
    message: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Run the checks in turn. Bad settings, or a database that is stopped or unreachable, end them early."""
    yield from _findings("variables", _variables, "every STREAMFLOW_ and POSTGRES_ variable is a setting")
    yield from _findings("dbt packages", _packages)
    yield from _findings("models", _models, "in step with the contract")
    [settings] = _findings("settings", _settings, "every one can be used")
    yield settings
    if settings.level != "ok":
        return
    yield from _findings("disk", _disk)
    database = running_database(load_settings())
    if database is None:
        yield Finding("database", "ok", STOPPED)
        return
    [reached] = _findings("database", lambda: _database(database))
    yield reached
    if reached.level == "problem":
        return
    with database.connect() as connection:
        connection.execute("set default_transaction_read_only = on")
        fine = "the role may create what is missing and owns what is there"
        yield from _findings("rights", lambda: _rights(connection), fine)
        fine = "the collation is as it was, and nobody else may create functions here"
        yield from _findings("safety", lambda: _safety(connection), fine)
        yield from _findings("locks", lambda: _locks(connection), "no run waits for a lock of somebody else")
        yield from _findings("months", lambda: _months(connection))
        fine = "every table that the ledger knows is there"
        yield from _findings("tables", lambda: _tables(connection), fine)
        fine = "the tables have the columns that are declared, or will get them"
        yield from _findings("declaration", lambda: require_unchanged(connection, load_contract()), fine)
        fine = "each table names the same customers as when some were forgotten"
        yield from _findings("forgotten", lambda: require_same_customers(connection, load_contract()), fine)


def _findings(check: str, look: Callable[[], Found | None], fine: str = "") -> Iterator[Finding]:
    """The findings of a check, or `fine` if it finds nothing. A check that raises is a problem."""
    try:
        found = list(look() or ())
    except Exception as error:
        first, *rest = str(error).strip().splitlines() or [type(error).__name__]
        found = [("problem", first, " ".join(rest))]
    yield from (Finding(check, *one) for one in found or [("ok", fine, "")])


def _variables() -> Found:
    known = OTHERS | {str(field.validation_alias) for field in Settings.model_fields.values()}
    file = project().root / ".env"
    written = DotEnvSettingsSource(Settings, file, case_sensitive=True, env_ignore_empty=False).env_vars
    given = dict.fromkeys(os.environ, "the environment") | dict.fromkeys(written, str(file))
    for name in sorted(given):
        if name.startswith(PREFIXES) and name not in known and "_TEST_" not in name:
            near = difflib.get_close_matches(name, sorted(known), 1, 0.7)
            remedy = f"did you mean {near[0]}?" if near else "docs/settings.md lists all settings"
            yield "warning", f"{name} in {given[name]} is not a setting and has no effect", remedy


def _settings() -> None:
    load_settings()


def _packages() -> Found:
    if missing := lacking():
        yield "problem", f"not installed: {', '.join(missing)}", "streamflow setup"
    else:
        yield "ok", f"{audit_package()} is installed", ""


def _models() -> Found:
    if lacking := list(model_faults(load_contract())):
        yield "warning", f"out of step with the contract: {'; '.join(map(str, lacking))}", remedy_for(lacking)


def _disk() -> Found:
    place = load_settings().home.resolve() / "pgdata"
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        yield "problem", f"{there} cannot be written to", "set STREAMFLOW_HOME to another folder"
    elif free < LEAST:
        yield "problem", f"{free / 1e6:,.0f} MB free in {there}", "make room, or set STREAMFLOW_HOME to a larger disk"
    else:
        yield "ok", f"{free / 1e9:,.1f} GB free in {there}; a month needs ten times the size of its files", ""


def _database(database: Database) -> Found:
    with database.connect() as connection:
        where = "the embedded one" if database.embedded else f"at {database.uri}"
        text = f"PostgreSQL {connection.info.parameter_status('server_version')}, {where}"
        version = connection.info.server_version // 10000
        is_standby = value(connection, "select pg_is_in_recovery()")
    if is_standby:
        yield "problem", f"{text}, is a standby, and takes no writes", "set POSTGRES_HOST to the primary"
    elif OLDEST <= version <= NEWEST:
        yield "ok", text, ""
    else:
        remedy = f"streamflow is tested on PostgreSQL {OLDEST} to {NEWEST}"
        yield "problem" if version < OLDEST else "warning", text, remedy


def _tables(connection: Connection) -> Found:
    if ledger.exists(connection):
        ledger.require_tables(connection)
        if not ledger.is_current(connection):
            yield "warning", "schema ops is of another version of streamflow", "streamflow init, or the next ingest"
        elif failure := node_failure(connection):
            yield "problem", failure, ""


def _rights(connection: Connection) -> Found:
    made = [name for table in load_contract() for name in (table.name, f"{table.name}_snapshots")]
    parameters = {"relations": [*made, *(path.stem for path in model_files("marts") if path.parent.name != "latest")]}
    for message, remedy in connection.execute(statement(__file__, "rights"), parameters).fetchall():
        yield "problem", f"this role {message}", remedy


def _safety(connection: Connection) -> Found:
    for message, remedy in [*connection.execute(statement(__file__, "collation")), *unexpected_creators(connection)]:
        yield "warning", message, remedy


def _locks(connection: Connection) -> Found:
    for who, remedy in blockers(connection):
        yield "warning", f"a run waits for {who}", f"wait for it to end, or as its role or a superuser: {remedy}"


def _months(connection: Connection) -> Found:
    months = month_states.months(connection)
    running = ledger.holder(connection)
    left = list(month_states.left_to_do(months, running))
    yield from (("warning", *one) for one in left)
    if running:
        yield "ok", f"under way: {running}", ""
    elif not left:
        yield "ok", f"{sum(month['state'] == 'published' for month in months)} published, none left unfinished", ""
