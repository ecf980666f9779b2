"""What is wrong with the names of a month's files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from loader.delivery import Delivery, Problem, SourceFile
from loader.delivery.causes import near
from loader.errors import NotDelivered, WrongUsage

LISTED = 12
MISSING = "the file is missing"


def not_there(delivery: Delivery) -> NotDelivered | WrongUsage:
    """The error for a month that has neither a folder nor an archive; it says what is there instead."""
    folder, *others = delivery.names
    place = delivery.data_dir
    if place.is_file():
        return WrongUsage(f"{place} is a file: name the folder that has the months' folders and archives.")
    wanted = f"month {delivery.label} is not there: {place / folder} is missing, and so is"
    if not place.is_dir():
        return NotDelivered(f"{wanted} {place}")
    there = sorted(path.name for path in place.iterdir() if not path.name.startswith("."))
    return NotDelivered(f"{wanted} {''.join(others)}; {place} has {_listed(there)}")


def of_names(
    delivery: Delivery, place: Path, missing: Sequence[str], takers: Sequence[tuple[SourceFile, Sequence[str]]]
) -> Iterator[Problem]:
    """Yield a problem for each file that several tables would take, and for each missing file.

    Args:
        place: the folder or archive.
        takers: each file that is there, and the tables that would take it.

    Raises:
        NotDelivered: no table takes any of the files, and no missing file seems misplaced or misnamed.
    """
    for file, names in takers:
        if len(names) > 1:
            yield Problem(file.name, f"is a file of {' and of '.join(names)}: give them other names in `files`")
    strange = [file.base for file, names in takers if not names]
    problems = [_why_missing(place, wanted, strange) for wanted in missing]
    if missing and len(strange) == len(takers) and all(problem.reason == MISSING for problem in problems):
        has = f"{place} has {_listed(strange)}, and none of {', '.join(missing)}"
        raise NotDelivered(f"month {delivery.label} is not there: {has}")
    yield from problems


def _why_missing(place: Path, wanted: str, strange: Sequence[str]) -> Problem:
    """Why a file may be missing. `strange` are the names of the files that no table takes."""
    for end in ("", ".gz"):
        if deeper := next(place.glob(f"*/{wanted}{end}"), None):
            remedy = f"Move the files up into {place.name}"
            return Problem(wanted, f"one folder deeper, in {deeper.parent.name}", remedy=remedy)
    return Problem(wanted, f"{MISSING}{near(wanted, strange)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:LISTED], *(["more"] if names[LISTED:] else [])]) or "nothing"
