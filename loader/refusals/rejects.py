"""The report of what is wrong with a month: in a CSV file, up to a limit, and the first rows on the screen."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from operator import attrgetter
from pathlib import Path

from loader.delivery import Problem
from loader.delivery.csv_contract import RECORD_LIMIT
from loader.outlet import Outlet
from loader.words import counted, printable

ON_SCREEN = 20
IN_FILE = 1_000_000
"""How many problems a rejects file holds at most; those beyond are counted."""
GROUPS = 1_000
"""How many groups of problems are told apart; those beyond are counted."""
FORMULA = re.compile(r"\s*[=+\-@]")
NUMBER = re.compile(r"[+-]?[\d.,]*")
EXACT_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
COLUMNS = [field.name for field in fields(Problem)]


@dataclass
class Group:
    """Problems of a file that are the same but for line and value: the first, and how many there are."""

    problem: Problem
    count: int = 1


@dataclass(frozen=True)
class Rejects:
    """How many problems there are, how many were written, the files concerned, the first groups, and where all are.

    `sentence` is that with which the month is refused: the cause, where one explains the problems; `more` follows it.
    `unwritten` says why the file does not have them.
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
        """What follows the sentence: other causes, the first groups, how many more there are, and where all are."""
        which = "all of them" if self.written == self.count else f"the first {self.written:,} of them"
        where = f"{which}: {self.path}" if not self.unwritten else f"{self.path} cannot be written: {self.unwritten}"
        return [*self.more, *listed(self.first, self.count), where]


def grouped(problems: Iterable[Problem], groups: dict[Hashable, Group] | None = None) -> list[Group]:
    """The first groups of the problems, up to a limit, in the order of their first ones."""
    groups = {} if groups is None else groups
    for problem in problems:
        key = (problem.file, problem.column, problem.audit or problem.reason, problem.remedy)
        if key in groups:
            groups[key].count += 1
        elif len(groups) < GROUPS:
            groups[key] = Group(problem)
    return list(groups.values())


def causes(groups: Sequence[Group]) -> list[str]:
    """A sentence for each cause that is one of a file as a whole, or explains half of the problems or more."""
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
    """In words that hold no customer's value: the ledger keeps them, and they may be sent elsewhere."""
    first, *others = dict.fromkeys(group.problem.file for group in groups)
    files = f"{first} and {len(others)} more" if others else first
    count = sum(group.count for group in groups)
    times = f" ({count:,} times)" if count > 1 and groups[0].problem.line not in {None, 1} else ""
    said = f"{files}: {groups[0].problem.reason}{times}"
    return printable(f"{said}{'' if said.endswith('?') else '.'} {remedy}")


def listed(groups: Sequence[Group], count: int) -> list[str]:
    """The first groups as aligned lines for a person, and how many of `count` problems are not among them.

    Each says where, column, value, why, the audit that found it, and how many more are like it.
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
    """A field for a CSV file that may be opened as a spreadsheet: nothing in it is a formula, or steers a terminal."""
    if not isinstance(value, str):
        return value
    text = printable(value, keep="\n")
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def forget_in_rejects(folder: Path, customers: Collection[str], *, numbers: bool = False) -> int:
    """Take every row that names one of the customers out of the rejects files; returns how many files changed.

    Args:
        numbers: their names are numbers, so that 007 is 7.
    """
    csv.field_size_limit(RECORD_LIMIT)
    known = {Decimal(customer) for customer in customers if EXACT_NUMBER.fullmatch(customer)} if numbers else set()

    def names_one(text: str) -> bool:
        return text in wanted or (numbers and EXACT_NUMBER.fullmatch(text) is not None and Decimal(text) in known)

    changed, wanted = 0, {shown for customer in customers for shown in (customer, without_formulas(customer))}
    for path in sorted(folder.glob("month_*.csv")):
        without, dropped = path.with_suffix(".part"), 0
        with path.open(newline="", encoding="utf-8") as old, without.open("w", newline="", encoding="utf-8") as new:
            writer = csv.writer(new)
            for row in csv.reader(old):
                if any(map(names_one, row)):
                    dropped += 1
                else:
                    writer.writerow(row)
        if dropped:
            without.replace(path)
        without.unlink(missing_ok=True)
        changed += bool(dropped)
    return changed


def write_rejects(problems: Iterable[Problem], path: Path, month: str, summary: str | None = None) -> Rejects:
    """Write the problems to a CSV file as they come, keeping only the first of each group in memory.

    Where there are more than IN_FILE, a last row says how many: no file, and a sentence as the reason.

    Args:
        summary: the sentence in place of one that counts the problems.
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
    """The file; what is wrong with a month is told also where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Outlet(path, "w")
    except OSError as error:
        nowhere = Outlet(os.devnull, "w")
        nowhere.lost = error
        return nowhere
