"""The report of what is wrong with a month: a CSV file, up to a limit, and the first problems on the screen."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from loader.delivery import Problem
from loader.outlet import Outlet
from loader.words import counted, printable

ON_SCREEN = 20
IN_FILE = 1_000_000
"""The most problems that a rejects file holds; further ones are only counted."""
GROUPS = 1_000
"""The most groups of problems; problems of further groups are only counted."""
FORMULA = re.compile(r'(^|[;|\n])([ "]*[=+\-@\uff1d\uff0b\uff0d\uff20])')
"""What a spreadsheet runs, also one whose CSV is separated by ; or |, where these and line ends begin another cell, and
one for East Asian languages, which takes the wide forms of these characters too."""
NUMBER = re.compile(r"[+-]?[\d.,]*")
COLUMNS = [field.name for field in fields(Problem)]


@dataclass
class Group:
    """Problems of a file that differ only in line and value: the first one, and how many there are."""

    problem: Problem
    count: int = 1


@dataclass(frozen=True)
class Rejects:
    """What a report has: how many problems there are and were written, their files, their first groups, its path.

    `sentence` is the message of the refusal: the cause, if one explains the problems. The lines in `more` follow it.
    `unwritten` says why the report could not be written; None if it was.
    """

    count: int
    written: int
    files: list[str]
    first: list[Group]
    path: Path
    sentence: str
    more: list[str]
    unwritten: str | None

    def as_lines(self) -> list[str]:
        """The lines after the sentence: `more`, the first groups, how many problems are left out, and where all are."""
        which = "all of them" if self.written == self.count else f"the first {self.written:,} of them"
        where = f"{which}: {self.path}" if not self.unwritten else f"{self.path} cannot be written: {self.unwritten}"
        return [*self.more, *listed(self.first, self.count), where]


def grouped(problems: Iterable[Problem], groups: dict[Hashable, Group] | None = None) -> list[Group]:
    """Group the problems, up to GROUPS groups, in the order of their first problems. Adds to `groups` if given."""
    groups = {} if groups is None else groups
    for problem in problems:
        key = (problem.file, problem.column, problem.audit or problem.reason, problem.remedy)
        if key in groups:
            groups[key].count += 1
        elif len(groups) < GROUPS:
            groups[key] = Group(problem)
    return list(groups.values())


def causes(groups: Sequence[Group]) -> list[str]:
    """A sentence for each cause that concerns a whole file or explains at least half of the problems."""
    by_remedy: dict[str, list[Group]] = {}
    for group in groups:
        if group.problem.remedy:
            by_remedy.setdefault(group.problem.remedy, []).append(group)
    half = sum(group.count for group in groups) / 2
    return [
        _cause(remedy, found)
        for remedy, found in by_remedy.items()
        if found[0].problem.line in {None, 1} or sum(group.count for group in found) >= half
    ]


def _cause(remedy: str, groups: Sequence[Group]) -> str:
    """The sentence has no customer's value in it, as the ledger keeps it and notifications may send it elsewhere."""
    first, *others = dict.fromkeys(group.problem.file for group in groups)
    files = f"{first} and {len(others)} more" if others else first
    count = sum(group.count for group in groups)
    times = f" ({count:,} times)" if count > 1 and groups[0].problem.line not in {None, 1} else ""
    said = f"{files}: {groups[0].problem.reason}{times}"
    return printable(f"{said}{'' if said.endswith('?') else '.'} {remedy}")


def listed(groups: Sequence[Group], count: int) -> list[str]:
    """The first groups as aligned lines, and how many of `count` problems are not among them.

    Each line has the place, column, value and reason, the audit that found it, and how many more are like it.
    """
    rows, left = [], count
    for group in groups[:ON_SCREEN]:
        problem, value = group.problem, group.problem.value
        cells = [f"{problem.file}:{problem.line}" if problem.line else problem.file, problem.column or ""]
        cells.append(f'"{value}"' if value is not None else "")
        found_by = f"  [{problem.audit}]" if problem.audit else ""
        more = f" (and {group.count - 1:,} more like it)" if group.count > 1 else ""
        rows.append([*map(printable, cells), f"{printable(problem.reason)}{found_by}{more}"])
        left -= group.count
    shown = [[cell.ljust(max(map(len, cells))) for cell in cells] for cells in zip(*rows, strict=True) if any(cells)]
    lines = ["  " + "  ".join(cells).rstrip() for cells in zip(*shown, strict=True)]
    return [*lines, *([f"  ... and {left:,} more"] if left else [])]


def without_formulas(value: object) -> object:
    """Make a field safe for a CSV file: no formula for a spreadsheet, and no control characters for a terminal."""
    if not isinstance(value, str):
        return value
    text = printable(value, keep="\n")
    return text if NUMBER.fullmatch(text) else FORMULA.sub(r"\1'\2", text)


def delete_rejects(folder: Path) -> int:
    """Delete the rejects files of all months; return how many there were. `check` writes a month's file again."""
    files = list(folder.glob("month_*"))
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def write_rejects(problems: Iterable[Problem], path: Path, month: str, summary: str | None = None) -> Rejects:
    """Write the problems to a CSV file as they come; only the first problem of each group stays in memory.

    If there are more than IN_FILE, a last row without a file says in its reason how many more.

    Args:
        summary: replaces the sentence that counts the problems.
    """
    outlet = _outlet(path)
    values = attrgetter(*COLUMNS)
    count, files, groups = 0, dict[str, None](), dict[Hashable, Group]()
    with io.TextIOWrapper(io.BufferedWriter(outlet), "utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for count, problem in enumerate(problems, 1):
            files[problem.file] = None
            grouped([problem], groups)
            if count <= IN_FILE:
                writer.writerow(map(without_formulas, values(problem)))
        if count > IN_FILE:
            writer.writerow(["", f"and {count - IN_FILE:,} more, which are not written here"])
    things = "1 thing is" if count == 1 else f"{count:,} things are"
    told = f"{things} wrong in {counted(len(files), 'file')}, nothing was changed"
    first, *others = [*causes(list(groups.values())), summary or told]
    sentence = f"month {month} refused: {first}" if others or not summary else summary
    unwritten = outlet.lost.strerror if outlet.lost else None
    shown = list(groups.values())[:ON_SCREEN]
    return Rejects(count, min(count, IN_FILE), list(files), shown, path, sentence, others, unwritten)


def _outlet(path: Path) -> Outlet:
    """Open the report; if that fails, discard what is written, as the screen still shows the problems."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Outlet(path, "w")
    except OSError as error:
        nowhere = Outlet(os.devnull, "w")
        nowhere.lost = error
        return nowhere
