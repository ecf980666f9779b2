"""The report of what is wrong with a month: in a CSV file, up to a limit, and the first rows on the screen."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import islice
from operator import attrgetter
from pathlib import Path

from loader.delivery import NOT_TEXT, Problem

ON_SCREEN = 20
IN_FILE = 1_000_000
"""How many problems a rejects file holds at most; those beyond are counted."""
FORMULA = re.compile(r"\s*[=+\-@]")
NUMBER = re.compile(r"[+-]?[\d.,]*")
COLUMNS = [field.name for field in fields(Problem)]


@dataclass(frozen=True)
class Rejects:
    """How many problems there are, how many were written, the files concerned, the first ones, and where they are."""

    count: int
    written: int
    files: list[str]
    first: list[Problem]
    path: Path

    def refusal_of(self, month: str) -> str:
        """The sentence with which a month is refused."""
        things = "1 thing is" if self.count == 1 else f"{self.count:,} things are"
        files = "1 file" if len(self.files) == 1 else f"{len(self.files)} files"
        return f"month {month} refused: {things} wrong in {files}, nothing was changed"

    def as_lines(self) -> list[str]:
        """The first problems, how many more there are, and where all of them are."""
        left = self.count - len(self.first)
        more = [f"... and {left:,} more"] if left else []
        which = "all of them" if self.written == self.count else f"the first {self.written:,} of them"
        return [*(f"  {line}" for line in [*as_rows(self.first), *more]), f"{which}: {self.path}"]


def as_rows(problems: Iterable[Problem], most: int = ON_SCREEN) -> list[str]:
    """Problems as aligned lines for a person: where, column, value, why, and the audit that found it."""
    rows = [
        (
            f"{printable(problem.file)}:{problem.line}" if problem.line else printable(problem.file),
            printable(problem.column or ""),
            printable(json.dumps(problem.value, ensure_ascii=False)) if problem.value is not None else "",
            printable(problem.reason) + (f"  [{problem.audit}]" if problem.audit else ""),
        )
        for problem in islice(problems, most)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip() for row in rows
    ]


def printable(text: str, keep: str = "") -> str:
    """Text without what would steer the terminal or turn the order of its letters: that is shown by its number."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _by_number(one) for one in text)


def _by_number(character: str) -> str:
    """An escape for a character, or for a byte that is not UTF-8."""
    return f"\\x{ord(character) - 0xDC00:02x}" if NOT_TEXT.match(character) else repr(character)[1:-1]


def without_formulas(value: object) -> object:
    """A field for a CSV file that may be opened as a spreadsheet: nothing in it is a formula, or steers a terminal."""
    if not isinstance(value, str):
        return value
    text = printable(value, keep="\n")
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def forget_in_rejects(folder: Path, customers: Iterable[str]) -> int:
    """Take every row that names one of the customers out of the rejects files; returns how many files changed."""
    changed, wanted = 0, {shown for customer in customers for shown in (customer, without_formulas(customer))}
    for path in sorted(folder.glob("month_*.csv")):
        without, dropped = path.with_suffix(".part"), 0
        with path.open(newline="", encoding="utf-8") as old, without.open("w", newline="", encoding="utf-8") as new:
            writer = csv.writer(new)
            for row in csv.reader(old):
                if wanted.isdisjoint(row):
                    writer.writerow(row)
                else:
                    dropped += 1
        if dropped:
            without.replace(path)
        without.unlink(missing_ok=True)
        changed += bool(dropped)
    return changed


def write_rejects(problems: Iterable[Problem], path: Path) -> Rejects:
    """Write the problems to a CSV file as they come, keeping only the first of them in memory.

    Where there are more than IN_FILE, a last row says how many: no file, and a sentence as the reason.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    values = attrgetter(*COLUMNS)
    count, files, first = 0, dict[str, None](), list[Problem]()
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for count, problem in enumerate(problems, 1):
            files[problem.file] = None
            if count <= ON_SCREEN:
                first.append(problem)
            if count <= IN_FILE:
                writer.writerow(map(without_formulas, values(problem)))
        written = min(count, IN_FILE)
        if count > written:
            writer.writerow(["", f"and {count - written:,} more, which are not written here"])
    return Rejects(count, written, list(files), first, path)
