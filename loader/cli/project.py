"""`init`, `dbt`, `models`, `new`, `setup` and `doctor`: the tables, the dbt project, and their surroundings."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from loader.cli import terminal
from loader.cli.summaries import place
from loader.cli.terminal import Json, show
from loader.contract.tables import load_contract
from loader.database import open_database
from loader.errors import SurroundingsFailed, WrongUsage
from loader.project import SOURCES, project
from loader.settings import load_settings
from loader.words import counted, printable

if TYPE_CHECKING:
    from loader.database import Database
    from loader.pipeline.dbt import Dbt
    from loader.upkeep.roles import RolesMade

WITHOUT_PACKAGES = {"deps", "clean", "debug", "--version", "-v", "-V", "--help", "-h"}
"""What dbt can do before its packages are installed."""

COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}

Roles = Annotated[bool, typer.Option("--roles", help="Also make or update a role that loads and one that reads.")]
LoaderRole = Annotated[str | None, typer.Option(metavar="NAME", help="Its name, if not streamflow_loader.")]
ReaderRole = Annotated[str | None, typer.Option(metavar="NAME", help="Its name, if not streamflow_reader.")]


def init(
    roles: Roles = False, loader_role: LoaderRole = None, reader_role: ReaderRole = None, as_json: Json = False
) -> None:
    """Create all tables, empty. `ingest` does so by itself.

    With --roles, run by a superuser or the database's owner, the role that loads becomes the owner of the tables. From
    then on, that role creates them.

    Passwords come from STREAMFLOW_LOADER_PASSWORD and STREAMFLOW_READER_PASSWORD.
    """
    from loader import ledger
    from loader.contract.declared import require_own
    from loader.pipeline.dbt import Dbt
    from loader.upkeep.roles import chosen, make_roles, others_may_create, relations_of

    if not roles and {loader_role, reader_role} != {None}:
        raise WrongUsage("--loader-role and --reader-role name what --roles makes: give --roles too.")
    settings = load_settings()
    database, dbt = open_database(settings), Dbt(settings)
    with database.connect() as connection:
        both = chosen(connection, loader_role, reader_role) if roles else None
        ledger.lock(connection)
        require_own(connection, load_contract())
        # what other roles put into this database would run with this session's rights
        creates = both is None or not others_may_create(connection)
        if creates:
            ledger.create(connection)
            _create_tables(dbt, database)
        passwords = {"loader": settings.loader_password, "reader": settings.reader_password}
        made = make_roles(connection, both, passwords, relations_of(dbt.manifest(database))) if both else None
    if made and database.embedded:
        made.notes.append("the embedded server asks nobody for a password")
    there = "all tables are there" if creates else "tables that are missing are created by `init` as the loader"
    lines = [there, *(_made(made) if made else []), place(database.uri)]
    show(as_json, {"uri": database.uri, **(asdict(made) if made else {})}, *lines)


def _create_tables(dbt: Dbt, database: Database) -> None:
    result = dbt.run(["run-operation", "streamflow.create_missing_tables"], database, lambda _: None, lambda _: None)
    if not result.success:
        raise SurroundingsFailed("\n  ".join(["dbt failed", *result.errors]))


def _made(made: RolesMade) -> Iterator[str]:
    for role in made.roles:
        passwords = {
            "set": f"with the password of STREAMFLOW_{role.purpose.upper()}_PASSWORD",
            "kept": "its password is as it was",
            "none": f"without a password; to set one, in psql: \\password {role.role}",
        }
        yield f"{role.purpose} {role.role}: {'created' if role.created else 'up to date'}, {passwords[role.password]}"
    if made.handed_over:
        yield f"objects handed over to {made.roles[0].role}: {made.handed_over}"
    yield from (f"note: {note}" for note in made.notes)


def dbt(context: typer.Context) -> None:
    """Run dbt with this project, profile and database: streamflow dbt build, ... The exit code is dbt's."""
    from loader.contract.packages import link_own_package, require_packages
    from loader.pipeline.dbt import set_environment

    set_environment(load_settings(), open_database(load_settings()))
    needs_packages = context.args and WITHOUT_PACKAGES.isdisjoint(context.args)
    (require_packages if needs_packages else link_own_package)()
    os.execv(Path(sys.executable).with_name("dbt"), ["dbt", *context.args])  # noqa: S606


def models(
    names: Annotated[list[str] | None, typer.Argument(help="Only these models.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the models do not match the declaration.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Rewrite models that exist, even edited ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the missing dbt models of the tables that models/staging/_sources.yml declares."""
    from loader.contract.model_check import model_faults, remedy_for
    from loader.contract.models import write_models

    if check and names:
        raise WrongUsage("--check looks at all models: leave their names out.")
    tables = load_contract()
    paths = [] if check else write_models(tables, names or (), overwrite=overwrite)
    written = [str((project().dbt / path).relative_to(project().root)) for path in paths]
    lacking = list(model_faults(tables))
    lines = [*(f"written: {path}" for path in written), *(f"out of step: {one}" for one in lacking)]
    lines += [remedy_for(lacking)] if lacking else []
    result = {"written": written, "out_of_step": [str(one) for one in lacking]}
    show(as_json, result, *lines or ["every model is there, with the columns that are declared"])
    if check and lacking:
        raise typer.Exit(1)


def new(
    folder: Annotated[Path, typer.Argument(help="The new project's folder.", metavar="FOLDER")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FOLDER", help="A folder with one month of CSV files; without it, the example is copied."
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The column that a model is to predict.", metavar="TABLE.COLUMN")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a dbt project for tables of your own, which are proposed from one month of files."""
    from loader.scaffold.new import make_project

    if label and source is None:
        raise WrongUsage("--label names a column of the files that --from names: give --from too.")
    made = make_project(folder, source, label)
    names = ["table", "columns", "key", "references"]
    shown = terminal.table(names, [[table[name] or "" for name in names] for table in made.tables])
    notes = [f"note: {note}" for note in made.notes]
    contract = f"the contract: {folder / SOURCES}; correct it before you publish a month"
    show(
        as_json, made, shown, *notes, contract, f"next: cd {shlex.quote(str(folder))} && streamflow ingest {made.month}"
    )


def setup(as_json: Json = False) -> None:
    """Install the packages in packages.yml; without dbt's hub, a stand-in for dbt_expectations."""
    from loader.contract import packages

    done = packages.install()
    show(as_json, {"message": done}, done)


def doctor(as_json: Json = False) -> None:
    """Check database, rights, locks, settings and disk, and change nothing; exit 3 if there is a problem."""
    from loader.readers.doctor import examine

    findings = list(examine())
    lines = []
    for found in findings:
        text = f" {found.check}: {found.message}{f': {found.remedy}' if found.remedy else ''}"
        lines.append(Text.assemble((f"{found.level:<8}", COLOURS[found.level]), printable(text)))
    problems, warnings = (sum(found.level == level for found in findings) for level in ("problem", "warning"))
    last = counted(problems, "problem") if problems else "no problem found"
    last += f", {counted(warnings, 'warning')}" if warnings else ""
    show(as_json, {"problems": problems, "findings": findings}, *lines, last)
    if problems:
        raise typer.Exit(SurroundingsFailed.exit_code)
