"""Where things are on disk: the project that the program works on, and the files shipped with the program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from loader.errors import WrongUsage

CODE = Path(__file__).resolve().parent
SHIPPED = CODE if (CODE / "dbt_project").is_dir() else CODE.parent
"""The folder of the shipped files: in a wheel the folder of the code, in a checkout of the repository its parent."""
PACKAGE = SHIPPED / "dbt_project" / "streamflow"
"""The dbt package that every project uses."""
SOURCES = Path("models/staging/_sources.yml")
VARIABLE = "STREAMFLOW_PROJECT_DIR"


@dataclass(frozen=True)
class Project:
    """The folders of a project: `root` has .env and .streamflow, `dbt` the dbt project, `profiles` profiles.yml."""

    root: Path
    dbt: Path
    profiles: Path
    months: Path

    @property
    def sources(self) -> Path:
        """The dbt sources file, which is the contract of the delivery."""
        return self.dbt / SOURCES

    @property
    def packages(self) -> Path:
        """The folder of the installed dbt packages."""
        return self.dbt / "dbt_packages"


@cache
def project() -> Project:
    """The project in STREAMFLOW_PROJECT_DIR; without it, in the current folder or one above it; else the checkout.

    Raises:
        WrongUsage: there is none, or it belongs to another user and was not named.
    """
    named = os.environ.get(VARIABLE)
    start = expanded(Path(named)) if named else _here()
    folders = [start] if named else [start, *start.parents]
    for folder in folders:
        for found in _in(folder.resolve()):
            if not named and not _is_trusted(folder) and found.root != SHIPPED:
                raise WrongUsage(
                    f"{found.root} belongs to another user, and a project can name programs to run: if you trust this"
                    " one, name it with --project-dir."
                )
            return found
    if not named and SHIPPED != CODE:
        return _checkout(SHIPPED)
    raise WrongUsage(
        f"{start} has no {SOURCES}: it is not a streamflow project{'' if named else ', nor is a folder above it'}."
        " Go into one, or name it with --project-dir; `streamflow new DIR` makes one."
    )


def is_only_the_checkout() -> bool:
    """Whether the project is the checkout's although the program was called from outside the checkout."""
    if SHIPPED == CODE or VARIABLE in os.environ or project().root != SHIPPED:
        return False
    here = _here().resolve()
    return SHIPPED not in (here, *here.parents)


def expanded(path: Path) -> Path:
    """The path with ~ or ~name replaced by the home folder of that user.

    Raises:
        WrongUsage: there is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise WrongUsage(f"{path} cannot be used: there is no user of that name.") from None


def model_files(folder: str = "") -> Iterator[Path]:
    """The SQL files of the models of the project and of streamflow's package, all or those in one folder."""
    for place in (project().dbt, PACKAGE):
        yield from (place / "models" / folder).rglob("*.sql")


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise WrongUsage("the current folder was removed: go into another one.") from None


def _is_trusted(folder: Path) -> bool:
    """Whether this user or root owns the folder (root trusts any)."""
    return os.geteuid() == 0 or folder.stat().st_uid in {0, os.geteuid()}


def _in(folder: Path) -> Iterator[Project]:
    if (folder / "dbt_project" / SOURCES).is_file():
        yield _checkout(folder)
    elif (folder / SOURCES).is_file():
        is_in_checkout = (folder.parent / "profiles" / "profiles.yml").is_file() and folder.name == "dbt_project"
        yield _checkout(folder.parent) if is_in_checkout else Project(folder, folder, folder, folder / "exports")


def _checkout(root: Path) -> Project:
    return Project(root, root / "dbt_project", root / "profiles", root / "seeds_data")
