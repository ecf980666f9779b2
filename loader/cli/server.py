"""`db`: the embedded server, or the one that POSTGRES_* names."""

from __future__ import annotations

import os
import shutil
from typing import Any

import typer

from loader.cli.terminal import Json, show
from loader.database import open_database, running_database, server
from loader.errors import SurroundingsFailed, WrongUsage
from loader.settings import Settings, load_settings


def start(as_json: Json = False) -> None:
    """Start the embedded server if it is not running, and print its URI."""
    where = open_database(_embedded()).uri
    show(as_json, {"running": True, "uri": where}, "running", where)


def stop(as_json: Json = False) -> None:
    """Stop the embedded server."""
    stopped = server.stop(_embedded().home)
    show(as_json, {"running": False, "stopped": stopped}, "stopped" if stopped else "it was not running")


def status(as_json: Json = False) -> None:
    """Show whether the database can be reached, where it is, and its version; exit 3 if it cannot be reached."""
    settings, database = load_settings(), running_database(load_settings())
    state: dict[str, Any] = {"embedded": settings.embedded, "running": database is not None}
    lines = ["not running: streamflow db start"]
    if database:
        with database.connect() as connection:
            state |= {"uri": database.uri, "version": connection.info.parameter_status("server_version")}
        lines = [f"PostgreSQL {state['version']}", database.uri]
    show(as_json, state, f"{'embedded' if settings.embedded else 'POSTGRES_HOST'}: {lines[0]}", *lines[1:])
    if not database:
        raise typer.Exit(SurroundingsFailed.exit_code)


def uri(as_json: Json = False) -> None:
    """Print a libpq URI without the password, and leave the server running. libpq reads PGPASSWORD and ~/.pgpass."""
    where = open_database(load_settings()).uri
    show(as_json, {"uri": where}, where)


def psql(context: typer.Context) -> None:
    """Open psql on the database; options that follow are passed to it."""
    database = open_database(load_settings())
    carried = server.programs() / "psql"  # this psql has no TLS; a socket needs none
    installed = shutil.which("psql")
    program = installed if installed and not (database.host.startswith("/") and carried.exists()) else str(carried)
    os.environ.update(database.libpq_environment)
    os.execv(program, ["psql", *context.args])  # noqa: S606


def _embedded() -> Settings:
    settings = load_settings()
    if not settings.embedded:
        raise WrongUsage(f"POSTGRES_HOST is set to {settings.host}: that server is not streamflow's to start or stop.")
    return settings
