"""Which tables take a file by its name, and what is wrong with the names in a delivery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from loader.contract.tables import Table
from loader.delivery.causes import did_you_mean
from loader.delivery.files import SourceFile
from loader.delivery.problem import Problem
from loader.errors import NotDelivered, WrongUsage

if TYPE_CHECKING:
    from loader.delivery.month import Delivery

LISTED = 12
MISSING = "the file is missing"


def takers(name: str, tables: Sequence[Table]) -> list[str]:
    """The tables that take a file of that name, compressed or not; often none, and more than one is an error."""
    return [table.name for table in tables if fnmatchcase(name.removesuffix(".gz"), table.wanted)]


def not_there(delivery: Delivery) -> NotDelivered | WrongUsage:
    """The error for a month that has neither a folder nor an archive; it says what is there instead."""
    folder, calendar = delivery.names
    place = delivery.data_dir
    if place.is_file():
        return WrongUsage(f"{place} is a file: name the folder that has the months' folders and archives.")
    wanted = f"month {delivery.label} is not there: {place / folder} is missing, and so is"
    if not place.is_dir():
        return NotDelivered(f"{wanted} {place}")
    there = sorted(path.name for path in place.iterdir() if not path.name.startswith("."))
    return NotDelivered(f"{wanted} {calendar}; {place} has {_listed(there)}")


def wrong_names(
    delivery: Delivery, place: Path, missing: Sequence[str], taken_by: Sequence[tuple[SourceFile, Sequence[str]]]
) -> Iterator[Problem]:
    """Yield a problem for each file that several tables would take, and for each missing file.

    Args:
        place: the folder or archive.
        taken_by: each file that is there, and the tables that would take it.

    Raises:
        NotDelivered: no table takes any of the files, and no missing file seems misplaced or misnamed.
    """
    for file, names in taken_by:
        if len(names) > 1:
            yield Problem(file.name, f"is a file of {' and of '.join(names)}: give them other names in `files`")
    strange = [file.base for file, names in taken_by if not names]
    problems = [_why_missing(place, wanted, strange) for wanted in missing]
    if missing and len(strange) == len(taken_by) and all(problem.reason == MISSING for problem in problems):
        has = f"{place} has {_listed(strange)}, and none of {', '.join(missing)}"
        raise NotDelivered(f"month {delivery.label} is not there: {has}")
    yield from problems


def misnamed(table: Table, taken_by: Sequence[tuple[SourceFile, Sequence[str]]]) -> Iterator[Problem]:
    """Yield a problem for each file that no table takes, and that would be a part of this one with other capitals."""
    if any(sign in table.wanted for sign in "*?["):
        for file, names in taken_by:
            if not names and fnmatchcase(file.base.lower().removesuffix(".gz"), table.wanted.lower()):
                yield Problem(file.name, f"is not named like {table.wanted}: rename it")


def _why_missing(place: Path, wanted: str, strange: Sequence[str]) -> Problem:
    """Why a file may be missing. `strange` are the names of the files that no table takes."""
    for end in ("", ".gz"):
        if deeper := next(place.glob(f"*/{wanted}{end}"), None):
            remedy = f"Move the files up into {place.name}"
            return Problem(wanted, f"one folder deeper, in {deeper.parent.name}", remedy=remedy)
    return Problem(wanted, f"{MISSING}{did_you_mean(wanted, strange)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:LISTED], *(["more"] if names[LISTED:] else [])]) or "nothing"
