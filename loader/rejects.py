"""The report of what is wrong with a month: all of it in a CSV file, the first rows on the screen."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from loader.deliveries import Problem

ON_SCREEN = 20


@dataclass(frozen=True)
class Rejects:
    """What was written: the count, the files concerned, the first problems, and where all of them are."""

    count: int
    files: list[str]
    first: list[Problem]
    path: Path


def write_rejects(problems: Iterable[Problem], path: Path) -> Rejects:
    """Write the problems to a CSV file as they come, keeping only the first of them in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, files, first = 0, dict[str, None](), list[Problem]()
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([field.name for field in fields(Problem)])
        for problem in problems:
            count += 1
            files[problem.file] = None
            if len(first) < ON_SCREEN:
                first.append(problem)
            writer.writerow(astuple(problem))
    return Rejects(count, list(files), first, path)
