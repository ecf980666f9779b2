"""The command line: its commands, and how they end. Exit codes are those of loader/errors.py."""

from __future__ import annotations

import datetime as dt
import gc
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psycopg
import typer
import typer.core

from loader import __version__
from loader.cli import loading, reading, server, terminal, upkeep
from loader.cli import project as of_project
from loader.errors import StreamflowError, WrongUsage, complaint
from loader.pipeline.progress import log
from loader.project import SHIPPED, is_only_the_checkout
from loader.settings import load_settings, use_project
from loader.words import NOT_TEXT, printable

CLICK_ERROR: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]
"""The base class of typer's usage errors; which module has it differs between versions."""

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


for kind in (typer.core.TyperArgument, typer.core.TyperOption):
    kind.display_type = lambda *_, **__: ""  # type: ignore[method-assign] # hides names of Python's types, like <bool>

app = typer.Typer(
    help="Load monthly CSV exports into PostgreSQL tables that a data or ML engineer can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        terminal.show(False, None, f"streamflow {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    project_dir: Annotated[
        Path | None,
        typer.Option(help="The project's folder, if it is not the current one or one above.", metavar="DIR"),
    ] = None,
    version: Annotated[  # noqa: ARG001 (its callback does all)
        bool, typer.Option("--version", help="Show the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Options of all commands: they stand before the command."""
    if project_dir is not None:
        use_project(project_dir)
        terminal.log_to_stderr(quiet="--json" in sys.argv)  # again, as that project's .env may set its form
    elif context.invoked_subcommand != "new" and is_only_the_checkout():
        log.warning(f"neither this folder nor one above it has a project: working on {SHIPPED}")


GROUPS = {
    "Load": (of_project.new, loading.ingest, loading.check, loading.land, upkeep.abandon),
    "Inspect": (loading.status, reading.report, reading.diff, reading.history, loading.verify, of_project.doctor),
    "Export": (reading.training_set, reading.freeze),
    "Maintain": (
        *(of_project.init, of_project.models, of_project.setup),
        *(upkeep.migrate, upkeep.archive, upkeep.forget),
    ),
}
"""The commands, in the order in which a user needs them."""

db = typer.Typer(help="The embedded PostgreSQL server, or the one that POSTGRES_* names.", no_args_is_help=True)
for group, commands in GROUPS.items():
    for command in commands:
        app.command(rich_help_panel=group)(command)
dbt_settings = {**PASSED_ON, "help_option_names": []}
app.command(rich_help_panel="Maintain", context_settings=dbt_settings)(of_project.dbt)
for command in (server.start, server.stop, server.status, server.uri):
    db.command()(command)
db.command(context_settings=PASSED_ON)(server.psql)
app.add_typer(db, name="db", rich_help_panel="Maintain")


def main(signals: Sequence[tuple[int, float]] = ()) -> int:
    """Run a command and turn what it raises into a sentence and an exit code, which is returned.

    Args:
        signals: gets the signals that interrupt it, each with its time.
    """
    gc.disable()  # a command is short, and collecting garbage among dbt's objects takes a tenth of its time
    as_json = "--json" in sys.argv
    terminal.log_to_stderr(quiet=as_json)
    code, message = _run(explains_words=not as_json and not terminal.logs_json())
    if signals and code == 130:
        code = 128 + signals[0][0]
    if message:
        terminal.complain(message)
        if as_json:
            terminal.show(True, {"error": message, "exit_code": code})
    return code


def _run(*, explains_words: bool) -> tuple[int, str]:
    """Run the command; return its exit code, and a message if none is shown yet. typer may show usage errors itself."""
    try:
        if strange := next(filter(NOT_TEXT.search, sys.argv), None):
            raise WrongUsage(f'"{printable(strange)}" is not UTF-8: give another word, or rename the file or folder.')
        code = app(standalone_mode=explains_words)
    except SystemExit as ended:  # typer ends this way, also on an interrupt
        code = ended.code
    except StreamflowError as error:
        return error.exit_code, str(error)
    except CLICK_ERROR as error:
        return getattr(error, "exit_code", 2), getattr(error, "format_message", error.__str__)()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except (psycopg.Error, OSError) as error:
        return 3, complaint(error)
    except Exception as error:
        return 3, _unexpected(error)
    return (130, "interrupted") if code == 130 else (code if isinstance(code, int) else 0, "")


def _unexpected(error: Exception) -> str:
    """Log the traceback of a bug; return a sentence that says what failed and where the log is."""
    what = f"unexpected error, a bug in streamflow: {type(error).__name__}: {error}".strip().splitlines()[0]
    try:
        path = load_settings().home / "logs" / "streamflow.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M:%S} UTC\n")
            traceback.print_exception(error, file=log)
    except (StreamflowError, OSError) as failure:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{what}, in {place.filename}:{place.lineno}. No log can be written: {failure}"
    return f"{what}. The traceback is in {path}: please report this bug with it."
