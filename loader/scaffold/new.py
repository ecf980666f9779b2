"""Write a dbt project for a user's own tables, which uses streamflow's package."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from loader.contract import packages
from loader.contract.customers import why_not_forgettable
from loader.contract.models import write_models
from loader.contract.tables import load_contract
from loader.database import open_database, server
from loader.delivery.month import MONTH, parse_month
from loader.errors import SurroundingsFailed, WrongUsage
from loader.project import SHIPPED, SOURCES
from loader.scaffold.files import exports, plain_name
from loader.scaffold.propose import TableSeen, contract, look_at
from loader.settings import load_settings, use_project

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLE = SHIPPED / "dbt_project"
PACKAGES = {"dbt", "dbt_date", "dbt_expectations", "streamflow"}
"""Names of dbt packages, which a project cannot have."""


@dataclass
class Made:
    """A new project: its folder, its tables, the month that it was made from, and notes for the user."""

    folder: Path
    month: str
    tables: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_project(folder: Path, source: Path | None, label: str | None) -> Made:
    """Make a project from a month's CSV files, or from the shipped example.

    Args:
        folder: the project's folder, which must be missing or empty.
        source: a folder with one month of CSV files.
        label: TABLE.COLUMN, which a model learns to predict.

    Raises:
        WrongUsage: the folder is not empty, there are no files, no file has a key, or the label is no column.
        DataRefused: a file is no CSV file.
        SurroundingsFailed: the project cannot be written, or the database is not available.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongUsage(f"{folder} is there already, and not empty: give another name.")
    try:
        name = "customers" if source is None else plain_name(folder.resolve().name, "table")
        is_taken = name in PACKAGES or yaml.safe_load(name) != name  # YAML reads `no` as a boolean
        _write_frame(folder, f"{name}_project" if is_taken else name)
        return _example(folder) if source is None else _of_files(folder, source, label)
    except BaseException as error:
        _take_back(folder)
        if isinstance(error, OSError):
            raise SurroundingsFailed(f"the project cannot be written: {error}.") from None
        raise


def _write_frame(folder: Path, name: str) -> None:
    """Write the files that do not depend on the tables."""
    (folder / SOURCES).parent.mkdir(parents=True, exist_ok=True)
    (folder / SOURCES).write_text("sources: []\n", encoding="utf-8")
    text = (EXAMPLE / "dbt_project.yml").read_text(encoding="utf-8").replace("customers", name)
    text = re.sub(r" *\+group: .*\n", "", text)
    (folder / "dbt_project.yml").write_text(text, encoding="utf-8")
    text = (EXAMPLE / "packages.yml").read_text(encoding="utf-8")
    text = text.replace("- local: streamflow", f"- local: {packages.OWN_LINK}")
    (folder / "packages.yml").write_text(text, encoding="utf-8")
    (folder / "macros").mkdir()
    shutil.copyfile(EXAMPLE / "macros" / "streamflow.sql", folder / "macros" / "streamflow.sql")
    shutil.copyfile(SHIPPED / "profiles" / "profiles.yml", folder / "profiles.yml")
    shutil.copyfile(TEMPLATES / "gitignore", folder / ".gitignore")
    use_project(folder)


def _take_back(folder: Path) -> None:
    """Remove a project that was not finished, and stop its server."""
    server.stop(folder / ".streamflow")
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _example(folder: Path) -> Made:
    ignored = shutil.ignore_patterns("_groups.yml", "overview.md")
    shutil.copytree(EXAMPLE / "models", folder / "models", dirs_exist_ok=True, ignore=ignored)
    shutil.copytree(SHIPPED / "seeds_data", folder / "exports", ignore=shutil.ignore_patterns("*.py", "*.md"))
    return _finish(Made(folder, "000"), "exports", None)


def _of_files(folder: Path, source: Path, label: str | None) -> Made:
    found = exports(source)
    with open_database(load_settings()).connect() as connection:
        tables = look_at(connection, found)
    _mark_label(tables, label)
    made = Made(folder, "000", notes=list(_notes(tables)))
    with_key = [table for table in tables if table.key]
    if not with_key:
        raise WrongUsage(f"{source} has no file with a key. {'; '.join(filter(None, map(_keyless, tables)))}.")
    (folder / SOURCES).write_text(contract(with_key), encoding="utf-8")
    if not MONTH.fullmatch(source.resolve().name):
        months = folder / "exports" / "month_000"
        months.mkdir(parents=True)
        for export in found:
            shutil.copy2(export.path, months)
        made.notes.append(
            f"{source} is not called month_NNN or YYYY-MM, so its files were copied to {months}: set"
            " STREAMFLOW_FIRST_MONTH in .env to the calendar month that they are of"
        )
        return _finish(made, "exports", None)
    first = source.resolve().name
    made.month = first.removeprefix("month_")
    if "-" not in first:
        made.notes.append(
            f"{first} is taken as {load_settings().as_of(parse_month(first)):%Y-%m}: if it is another month, set"
            " STREAMFLOW_FIRST_MONTH in .env to the calendar month of month_000 before the first ingest"
        )
    return _finish(made, str(source.resolve().parent), first if "-" in first else None)


def _mark_label(tables: list[TableSeen], label: str | None) -> None:
    if label is None:
        return
    for table in tables:
        if label in {f"{table.name}.{column.name}" for column in table.columns}:
            if not table.key:
                raise WrongUsage(f"{label} cannot be the label: {_keyless(table)}, so it is not declared.")
            table.label.add(label.partition(".")[2])
            return
    raise WrongUsage(f"no file has the column {label}: --label takes TABLE.COLUMN.")


def _notes(tables: list[TableSeen]) -> Iterator[str]:
    for table in tables:
        yield from table.notes
        if why := _keyless(table):
            yield f"{why}, so it is not declared"


def _keyless(table: TableSeen) -> str | None:
    if table.key:
        return None
    why = "no column, and no two or three together, identify its rows" if table.rows else "it has no rows"
    return f"{table.export.name}: {why}"


def _finish(made: Made, data_dir: str, first_month: str | None) -> Made:
    """Write .env, the models, the packages and README.md."""
    text = (
        (TEMPLATES / "env")
        .read_text(encoding="utf-8")
        .replace("@DATA_DIR@", "'" + data_dir.replace("\\", "\\\\").replace("'", "\\'") + "'")
    )
    if first_month:
        text = text.replace("# STREAMFLOW_FIRST_MONTH=2024-01", f"STREAMFLOW_FIRST_MONTH={first_month}")
    (made.folder / ".env").write_text(text, encoding="utf-8")
    tables = load_contract()
    for table in tables:
        if table.has_label and not table.is_per_customer:
            made.notes.append(f"{table.name} does not have one row per customer, so training sets leave out its label")
    if why := why_not_forgettable(tables):
        made.notes.append(f"`streamflow forget` is refused for these tables, as {why}")
    write_models(tables)
    packages.install()
    made.tables = [
        {
            "table": table.name,
            "columns": len(table.columns),
            "key": ", ".join(table.key),
            "references": table.references.table if table.references else None,
        }
        for table in tables
    ]
    readme = (TEMPLATES / "README.md").read_text(encoding="utf-8")
    readme = readme.replace("@NAME@", made.folder.resolve().name).replace("@MONTH@", made.month)
    (made.folder / "README.md").write_text(readme, encoding="utf-8")
    return made
