"""The command line. Results go to stdout, progress and complaints to stderr; exit codes are those of the contract."""

from __future__ import annotations

import datetime as dt
import gc
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loader.cli import completion, doctoring, looking, reading
from loader.errors import StreamflowError, WrongUsage
from loader.settings import Settings, load_settings

if TYPE_CHECKING:
    from loader.delivery import Delivery
    from loader.pipeline.outcome import Command

app = typer.Typer(
    help="Monthly CSV exports into PostgreSQL tables that a data or ML engineer can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(help="The embedded PostgreSQL server, or the one that POSTGRES_* names.", no_args_is_help=True)
app.add_typer(db, name="db")

app.command()(looking.history)
app.command()(looking.diff)
app.command()(doctoring.doctor)

CLICK_ERROR: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]
"""What typer raises where a command is used wrongly; the module that has it is not the same in all versions."""

Month = Annotated[str, typer.Argument(help="The number of the month, like 001.", autocompletion=completion.months)]
Months = Annotated[
    str,
    typer.Argument(
        help="The number of the month, like 001; or the first and the last of several, like 000..011.",
        autocompletion=completion.months,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The folder of months; seeds_data unless given.", show_default=False)
]
AsOf = Annotated[
    dt.datetime | None,
    typer.Option("--as-of", formats=["%Y-%m-%d"], help="Another date than the month's last day.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]


Restate = Annotated[
    bool, typer.Option("--restate", help="Replace a published month by other rows, and keep what is replaced.")
]
Reason = Annotated[
    str | None, typer.Option("--reason", help="Why a month is restated; the ledger keeps it.", show_default=False)
]


@app.command()
def ingest(
    month: Months,
    data_dir: DataDir = None,
    as_of: AsOf = None,
    force: Annotated[bool, typer.Option("--force", help="Audit and build again even where nothing is new.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    restate: Restate = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Land a month's files, audit them, and publish them: all six or none.

    Of several months each is published before the next one begins; the first that is refused is the last that is tried.
    """
    from loader.delivery import parse_months

    _require_reason(restate, reason)
    months = parse_months(month)
    if len(months) > 1 and (restate or as_of is not None):
        raise WrongUsage("--restate and --as-of are for one month: give its number alone.")
    deliveries = [_delivery(number, data_dir, as_of) for number in months]
    if dry_run:
        _plan(deliveries, as_json=as_json)
    else:
        _run("ingest", deliveries, as_json=as_json, force=force, restate=reason)


@app.command()
def check(month: Month, data_dir: DataDir = None, as_of: AsOf = None, as_json: Json = False) -> None:
    """Land and audit a month and say what is wrong with it; publish nothing."""
    from loader.delivery import parse_month

    _run("check", [_delivery(parse_month(month), data_dir, as_of)], as_json=as_json)


@app.command("land")
def land_month(
    month: Month,
    data_dir: DataDir = None,
    as_of: AsOf = None,
    force: Annotated[bool, typer.Option("--force", help="Land the files even where nothing is new.")] = False,
    restate: Restate = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Copy a month's files into staging and register them, no more: `dbt build` audits and publishes the month."""
    from loader.delivery import parse_month

    _require_reason(restate, reason)
    _run("land", [_delivery(parse_month(month), data_dir, as_of)], as_json=as_json, force=force, restate=reason)


@app.command()
def status(as_json: Json = False) -> None:
    """The months known: state, counts, audits and the hashes of their files."""
    from loader.cli import terminal
    from loader.database import open_database
    from loader.pipeline import ledger
    from loader.readers import oncall

    with open_database(load_settings()).connect() as connection:
        months = ledger.months(connection) if ledger.exists(connection) else []
        headlines = list(oncall.headlines(connection, months)) if months and not as_json else []
    if as_json:
        terminal.print_json(months)
    elif months:
        for line in headlines:
            terminal.out.print(line, markup=False, soft_wrap=True)
        terminal.show_months(months)
    else:
        terminal.out.print("no month yet: streamflow ingest 000")


app.command()(reading.verify)
app.command("training-set")(reading.training_set)
app.command()(reading.freeze)
app.command()(reading.report)


@app.command()
def init(
    roles: Annotated[
        bool, typer.Option("--roles", help="Also make a role that loads and one that reads, or bring them up to date.")
    ] = False,
    loader_role: Annotated[
        str | None, typer.Option("--loader-role", help="Its name, if not streamflow_loader.", show_default=False)
    ] = None,
    reader_role: Annotated[
        str | None, typer.Option("--reader-role", help="Its name, if not streamflow_reader.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Create every table, empty. `ingest` does so by itself.

    With --roles, for a superuser or the database's owner, the tables are handed over to the role that loads.

    Passwords come from STREAMFLOW_LOADER_PASSWORD and STREAMFLOW_READER_PASSWORD.
    """
    from loader.cli import terminal
    from loader.contract.tables import load_contract
    from loader.database import open_database
    from loader.errors import SurroundingsFailed
    from loader.pipeline import ledger
    from loader.pipeline.dbt import Dbt
    from loader.readers.roles import make_roles, refuse_powerful, wanted

    if (loader_role is not None or reader_role is not None) and not roles:
        raise WrongUsage("--loader-role and --reader-role name what --roles makes: give --roles too.")
    settings, tables = load_settings(), load_contract()
    both = wanted([loader_role, reader_role], [settings.loader_password, settings.reader_password])
    database = open_database(settings)
    with database.connect() as connection:
        if roles:
            refuse_powerful(connection, both)
        ledger.prepare(connection)
        ledger.lock(connection)
        operation = ["run-operation", "create_missing_tables"]
        result = Dbt(settings).run(database, operation, lambda _: None, lambda _: None)
        if not result.success:
            raise SurroundingsFailed("\n  ".join(["dbt failed", *result.errors]))
        made = make_roles(connection, both, tables) if roles else None
    if made and database.embedded:
        made.notes.append("the embedded server asks nobody for a password")
    if as_json:
        terminal.print_json({"uri": database.uri, **(asdict(made) if made else {})})
    else:
        terminal.out.print(f"all tables are there: {database.uri}")
        if made:
            terminal.show_roles(made)


@app.command(
    "dbt", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def run_dbt(context: typer.Context) -> None:
    """Run dbt with this project, profile and database: streamflow dbt build, streamflow dbt ls, ..."""
    from loader.database import open_database
    from loader.pipeline import dbt

    settings = load_settings()
    os.environ.update(dbt.environment(settings, open_database(settings)))
    program = Path(sys.executable).with_name("dbt")
    os.execv(program, ["dbt", *context.args])  # noqa: S606


@app.command()
def models(
    names: Annotated[list[str] | None, typer.Argument(help="Only these models.", show_default=False)] = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where the models lack what is declared.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also write those that are there anew, whatever somebody edited.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the dbt models of the tables that models/staging/_sources.yml declares, where they are missing."""
    from loader.cli import terminal
    from loader.contract.models import out_of_step, write_models
    from loader.contract.tables import load_contract

    tables = load_contract()
    written = [] if check_only else [f"dbt_project/{path}" for path in write_models(tables, names or (), overwrite=overwrite)]
    lacking = list(out_of_step(tables))
    if as_json:
        terminal.print_json({"written": written, "out_of_step": lacking})
    else:
        for line in [*(f"written: {path}" for path in written), *(f"out of step: {reason}" for reason in lacking)]:
            terminal.out.print(line, markup=False)
    if lacking:
        raise typer.Exit(1)


@app.command()
def setup(as_json: Json = False) -> None:
    """Install the dbt packages: from dbt's hub where it answers, else the stand-in that the repository carries."""
    from loader.cli import terminal
    from loader.contract import packages

    done = packages.install()
    if as_json:
        terminal.print_json({"message": done})
    else:
        terminal.out.print(done)


@db.command()
def start(as_json: Json = False) -> None:
    """Start the embedded server, where it does not run, and say where it is."""
    from loader.cli import terminal
    from loader.database import open_database

    where = open_database(_embedded()).uri
    if as_json:
        terminal.print_json({"running": True, "uri": where})
    else:
        terminal.out.print(f"running: {where}")


@db.command()
def stop(as_json: Json = False) -> None:
    """Stop the embedded server."""
    from loader.cli import terminal
    from loader.database import server

    stopped = server.stop(_embedded().home)
    if as_json:
        terminal.print_json({"running": False, "stopped": stopped})
    else:
        terminal.out.print("stopped" if stopped else "it was not running")


@db.command("status")
def db_status(as_json: Json = False) -> None:
    """Whether the database can be reached, where it is, and which version it has."""
    from loader.cli import terminal
    from loader.database import open_database, server

    settings = load_settings()
    running = not settings.embedded or server.socket_directory(settings.home) is not None
    state: dict[str, Any] = {"embedded": settings.embedded, "running": running}
    if running:
        database = open_database(settings)
        with database.connect() as connection:
            state |= {"uri": database.uri, "version": connection.info.parameter_status("server_version")}
    if as_json:
        terminal.print_json(state)
    else:
        kind = "embedded" if settings.embedded else "POSTGRES_HOST"
        where = f"PostgreSQL {state['version']} at {state['uri']}" if running else "not running: streamflow db start"
        terminal.out.print(f"{kind}: {where}")


@db.command()
def uri(as_json: Json = False) -> None:
    """Print one libpq URI, without the password, and leave the server up. libpq reads PGPASSWORD and ~/.pgpass."""
    from loader.database import open_database

    where = open_database(load_settings()).uri
    if as_json:
        from loader.cli import terminal

        terminal.print_json({"uri": where})
    else:
        sys.stdout.write(where + "\n")


@db.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the database; what follows is passed on to it."""
    from loader.database import open_database, server

    database = open_database(load_settings())
    carried = server.programs() / "psql"  # it has no TLS, which a socket does not need
    installed = shutil.which("psql")
    program = installed if installed and not (database.host.startswith("/") and carried.exists()) else str(carried)
    os.environ.update(database.libpq_environment)
    os.execv(program, ["psql", *context.args])  # noqa: S606


def _embedded() -> Settings:
    settings = load_settings()
    if not settings.embedded:
        raise WrongUsage(f"POSTGRES_HOST is set to {settings.host}: that server is not streamflow's to start or stop.")
    return settings


def _require_reason(restate: bool, reason: str | None) -> None:
    if restate != bool(reason and reason.strip()):
        raise WrongUsage('--restate and --reason "..." belong together: say why a published month is replaced.')


def _run(
    command: Command, deliveries: list[Delivery], *, as_json: bool, force: bool = False, restate: str | None = None
) -> None:
    from loader.cli import terminal
    from loader.errors import ModelsFailed
    from loader.pipeline.ingest import run_months
    from loader.pipeline.outcome import Refused

    settings = load_settings()
    several = len(deliveries) > 1
    progress = terminal.progress(quiet=as_json)
    outcomes = []
    refused = None
    try:
        for outcome in run_months(settings, command, deliveries, progress, force=force, restate=restate):
            progress.close()
            outcomes.append(outcome)
            if not as_json:
                terminal.show_outcome(outcome, brief=several)
            if command == "ingest" and outcome.state == "published":
                _after_publish(settings, outcome.month, outcome.as_of)
    except Refused as error:
        refused = error
        outcomes.append(error.outcome)
    finally:
        progress.close()
    if as_json:
        results = [asdict(outcome) for outcome in outcomes]
        terminal.print_json(results if several else results[0])
    if refused is not None and (not as_json or settings.log_format == "json"):
        terminal.show_refusal(refused)
    if several and not as_json:
        terminal.show_months_done(outcomes, [delivery.label for delivery in deliveries[len(outcomes) :]])
    if refused is not None:
        raise typer.Exit(refused.exit_code)
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(ModelsFailed.exit_code)


def _after_publish(settings: Settings, month: str, as_of: dt.date) -> None:
    """What settings ask for once a month is published. The month stands, whatever becomes of it."""
    from loader.cli import terminal
    from loader.readers.after_publish import after_publish

    try:
        for line in after_publish(settings, as_of):
            terminal.err.print(line, markup=False)
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        terminal.err.print(f"month {month} is published, but its report failed: {reason}", markup=False)


def _plan(deliveries: list[Delivery], *, as_json: bool) -> None:
    from loader.cli import terminal
    from loader.pipeline.plan import plan_month

    plans = [plan_month(load_settings(), delivery) for delivery in deliveries]
    if as_json:
        terminal.print_json([asdict(plan) for plan in plans] if len(plans) > 1 else asdict(plans[0]))
    else:
        for plan in plans:
            terminal.show_plan(plan)
    if any(plan.problems for plan in plans):
        raise typer.Exit(1)


def _delivery(month: int, data_dir: Path | None, as_of: dt.datetime | None) -> Delivery:
    from loader.delivery import find_delivery

    return find_delivery(load_settings(), month, data_dir, as_of.date() if as_of else None)


def main() -> None:
    """Run a command and turn what it raises into a sentence and an exit code."""
    gc.disable()  # a command is short, and looking for garbage in dbt's objects is a tenth of it
    try:
        _run_app()
    except StreamflowError as error:
        _end_with(error.exit_code, str(error))
    except KeyboardInterrupt:
        _end_with(130, "interrupted")
    except OSError as error:
        _end_with(3, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except Exception as error:
        if type(error).__module__.split(".", maxsplit=1)[0] != "psycopg":
            raise
        _end_with(3, f"the database says: {str(error).strip()}")
    finally:
        gc.enable()


def _end_with(code: int, message: str) -> None:
    from loader.cli import terminal

    terminal.show_error(message)
    if _wants_json():
        terminal.print_json({"error": message, "exit_code": code})
    sys.exit(code)


def _wants_json() -> bool:
    """Whether --json was given to a command of ours: what follows `dbt` and `psql` is theirs."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return "--json" in sys.argv[1:] and words[:1] != ["dbt"] and words[:2] != ["db", "psql"]


def _run_app() -> None:
    """Have a word that is used wrongly explained by typer, and in JSON too where the result was to be JSON."""
    if not (_wants_json() or _logs_json()):
        app(standalone_mode=True)
        return
    try:
        code = app(standalone_mode=False)
    except CLICK_ERROR as error:
        _end_with(getattr(error, "exit_code", 2), getattr(error, "format_message", error.__str__)())
    except typer.Abort:
        code = 130
    if code == 130:
        _end_with(130, "interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _logs_json() -> bool:
    from loader.cli import logs

    return logs.as_json()
