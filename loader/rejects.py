"""The report of what is wrong with a month: in a CSV file, up to a limit, and the first rows on the screen."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from loader.deliveries import Problem

ON_SCREEN = 20
IN_FILE = 1_000_000
"""How many problems a rejects file holds at most; those beyond are counted."""

COLUMNS = [field.name for field in fields(Problem)]


@dataclass(frozen=True)
class Rejects:
    """How many problems there are, how many were written, the files concerned, the first ones, and where they are."""

    count: int
    written: int
    files: list[str]
    first: list[Problem]
    path: Path


def write_rejects(problems: Iterable[Problem], path: Path) -> Rejects:
    """Write the problems to a CSV file as they come, keeping only the first of them in memory.

    Where there are more than IN_FILE, a last row says how many: no file, and a sentence as the reason.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count, files, first = 0, dict[str, None](), list[Problem]()
    values = attrgetter(*COLUMNS)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for count, problem in enumerate(problems, 1):
            files[problem.file] = None
            if count <= ON_SCREEN:
                first.append(problem)
            if count <= IN_FILE:
                writer.writerow(values(problem))
        written = min(count, IN_FILE)
        if count > written:
            writer.writerow(["", f"and {count - written:,} more, which are not written here"])
    return Rejects(count, written, list(files), first, path)
