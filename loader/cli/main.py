"""The command line: its commands, and how they end. Exit codes are those of the contract."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import psycopg
import typer

from loader import __version__
from loader.cli import ageing, changing, forgetting, loading, reading, server, terminal
from loader.cli import project as of_project
from loader.cli.plain_help import Command, Group
from loader.delivery import NOT_TEXT
from loader.errors import StreamflowError, WrongUsage
from loader.landing import printable
from loader.project import VARIABLE, project
from loader.settings import load_settings

CLICK_ERROR: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]
"""What typer raises where a command is used wrongly; the module that has it is not the same in all versions."""

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    cls=Group,
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
    project_dir: Annotated[
        Path | None,
        typer.Option(help="The project's folder, if it is not the current one or one above.", metavar="DIR"),
    ] = None,
    version: Annotated[  # noqa: ARG001 (its callback does all)
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Options of all commands: they stand before the command."""
    if project_dir is not None:
        os.environ[VARIABLE] = str(project_dir.absolute())  # programs that a command starts see it too
        project.cache_clear()
        load_settings.cache_clear()


GROUPS = {
    "Load": (of_project.new, loading.ingest, loading.check, loading.land, changing.abandon),
    "Look": (loading.status, reading.report, reading.diff, reading.history, loading.verify, of_project.doctor),
    "Take out": (reading.training_set, reading.freeze),
    "Look after": (
        *(of_project.init, of_project.models, of_project.setup),
        *(changing.migrate, ageing.archive, forgetting.forget),
    ),
}
"""The commands, in the order in which they come to be needed."""

db = typer.Typer(
    cls=Group, help="The embedded PostgreSQL server, or the one that POSTGRES_* names.", no_args_is_help=True
)
for group, commands in GROUPS.items():
    for command in commands:
        app.command(cls=Command, rich_help_panel=group)(command)
dbt_settings = {**PASSED_ON, "help_option_names": []}
app.command(cls=Command, rich_help_panel="Look after", context_settings=dbt_settings)(of_project.dbt)
for command in (server.start, server.stop, server.status, server.uri):
    db.command(cls=Command)(command)
db.command(cls=Command, context_settings=PASSED_ON)(server.psql)
app.add_typer(db, name="db", rich_help_panel="Look after")


def main() -> None:
    """Run a command and turn what it raises into a sentence and an exit code."""
    gc.disable()  # a command is short, and looking for garbage in dbt's objects is a tenth of it
    in_json = _wants_json() or terminal.logs_json()
    terminal.log_to_stderr(quiet=_wants_json())
    try:
        _require_text()
        code = app(standalone_mode=not in_json)  # by itself, typer explains a wrong word in a box
    except SystemExit as ended:  # typer's way to end, also of an interrupt
        code = ended.code
    except StreamflowError as error:
        _end_with(error.exit_code, str(error))
    except CLICK_ERROR as error:
        _end_with(getattr(error, "exit_code", 2), getattr(error, "format_message", error.__str__)())
    except (KeyboardInterrupt, typer.Abort):
        _end_with(130, "interrupted")
    except (psycopg.Error, OSError) as error:
        from loader.api import complaint

        _end_with(3, complaint(error))
    except Exception as error:
        from loader.cli.unexpected import sentence

        _end_with(3, sentence(error))
    if code == 130:
        _end_with(130, "interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _end_with(code: int, message: str) -> NoReturn:
    terminal.complain(message)
    if _wants_json():
        terminal.show(True, {"error": message, "exit_code": code})
    sys.exit(code)


def _require_text() -> None:
    """Refuse words that neither the database nor a log could take."""
    for word in _own_words():
        if NOT_TEXT.search(word):
            raise WrongUsage(f'"{printable(word)}" is not UTF-8: give another word, or rename the file or folder.')


def _wants_json() -> bool:
    """Whether --json was given to a command of ours."""
    return "--json" in _own_words()


def _own_words() -> list[str]:
    """The words of the command line; none of `dbt` and `psql`, as what follows is theirs."""
    values = {position + 1 for position, word in enumerate(sys.argv) if word == "--project-dir"}
    words = [word for position, word in enumerate(sys.argv) if not word.startswith("-") and position not in values]
    return [] if words[1:2] == ["dbt"] or words[1:3] == ["db", "psql"] else sys.argv[1:]
