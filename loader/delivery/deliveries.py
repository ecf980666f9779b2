"""A month's delivery on disk: where its files are, and whether their headers are those of the contract."""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loader.contract.tables import Table
from loader.delivery.files import UNREADABLE, GzipFile, PlainFile, SourceFile, ZipMember
from loader.errors import NotDelivered, WrongUsage
from loader.settings import Settings

SHOWN = 200
"""Characters of a value that a report holds."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a delivery. `line` counts as an editor does, from 1."""

    file: str
    reason: str
    line: int | None = None
    column: str | None = None
    value: str | None = None
    audit: str | None = None


@dataclass(frozen=True)
class Found:
    """The files of a delivery that can be read, by table, and what is wrong with folder, files and headers."""

    files: dict[str, SourceFile]
    problems: list[Problem]


@dataclass(frozen=True)
class Delivery:
    """The month that was asked for: the folder of months it is in, and the date it speaks for."""

    month: int
    data_dir: Path
    as_of: dt.date

    @property
    def label(self) -> str:
        """The month as people write it: three digits."""
        return f"{self.month:03d}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.data_dir / f"month_{self.label}"

    @property
    def archive(self) -> Path:
        """Where they may be instead."""
        return self.data_dir / f"month_{self.label}.zip"

    def find(self, tables: Sequence[Table]) -> Found:
        """Look for the file of every table, and at their headers.

        Raises:
            NotDelivered: neither the folder nor the archive of the month is there.
        """
        files: dict[str, SourceFile] = {}
        problems: list[Problem] = []
        try:
            names = self._names()
        except UNREADABLE as error:
            return Found({}, [Problem(self.archive.name, f"cannot be read: {error}")])
        if isinstance(names, Problem):
            return Found({}, [names])
        for table in tables:
            file = self._file(table, names)
            wrong = [file] if isinstance(file, Problem) else _problems(file, table)
            problems.extend(wrong)
            if not wrong and isinstance(file, SourceFile):
                files[table.name] = file
        return Found(files, problems)

    def _names(self) -> list[str] | Problem:
        """The names of all files, folders left out in an archive."""
        if self.folder.is_dir() and self.archive.exists():
            return Problem(self.folder.name, f"is there, and so is {self.archive.name}: take one of them away")
        if self.folder.is_dir():
            return sorted(path.name for path in self.folder.iterdir())
        if self.archive.is_file():
            with zipfile.ZipFile(self.archive) as archive:
                return [name for name in archive.namelist() if not name.endswith("/")]
        if self.folder.exists():
            return Problem(str(self.folder), "is a file, not a folder")
        raise NotDelivered(f"month {self.label} is not there: {_missing_folder(self.folder)}")

    def _file(self, table: Table, names: list[str]) -> SourceFile | Problem:
        """The one file of a table."""
        wanted = f"{table.name}.csv"
        if not self.folder.is_dir():
            matching = [name for name in names if name.rsplit("/", 1)[-1] == wanted]
        else:
            matching = [name for name in names if name in {wanted, f"{wanted}.gz"}]
        if len(matching) > 1:
            return Problem(wanted, f"is there more than once: {', '.join(matching)}")
        if not matching:
            return Problem(wanted, "the file is missing" + _near(wanted, names))
        if not self.folder.is_dir():
            return ZipMember(self.archive, matching[0])
        path = self.folder / matching[0]
        return GzipFile(path) if path.suffix == ".gz" else PlainFile(path)


def find_delivery(
    settings: Settings, month: int, data_dir: Path | None = None, as_of: dt.date | None = None
) -> Delivery:
    """The delivery of a month: by default in the settings' data_dir and as of the month's last day."""
    return Delivery(month, (data_dir or settings.data_dir).expanduser(), as_of or settings.as_of(month))


def parse_month(text: str) -> int:
    """The number of a month given as 1, 001 or month_001.

    Raises:
        WrongUsage: it is none of these.
    """
    match = re.fullmatch(r"(?:month_)?(\d{1,4})", text.strip(), re.ASCII)
    if match is None:
        raise WrongUsage(f'"{text}" is not a month: give its number, like 001.')
    return int(match.group(1))


def parse_months(text: str) -> list[int]:
    """The numbers of one month, or of the first and the last of several: 000..011.

    Raises:
        WrongUsage: it is none of these, or the last comes before the first.
    """
    first, dots, last = text.partition("..")
    months = list(range(parse_month(first), parse_month(last if dots else first) + 1))
    if not months:
        raise WrongUsage(f'"{text}" has no month in it: give the earlier one first, like 000..011.')
    return months


def _problems(file: SourceFile, table: Table) -> list[Problem]:
    """What is wrong with a file as a whole, or with its header."""
    if isinstance(file, PlainFile) and not file.path.is_file():
        return [Problem(file.name, "is a folder, not a file" if file.path.is_dir() else "is not a file")]
    try:
        return _content_problems(file, table)
    except UnicodeDecodeError:
        return [Problem(file.name, "the header is not UTF-8", line=1)]
    except csv.Error as error:
        return [Problem(file.name, f"the header is not CSV: {error}", line=1)]
    except UNREADABLE as error:
        return [Problem(file.name, unreadable(error))]


def _content_problems(file: SourceFile, table: Table) -> list[Problem]:
    header = file.header()
    if not header:
        return [Problem(file.name, "the first line is empty" if file.size else "the file is empty", line=1)]
    if problems := list(_header_problems(file.name, header, table)):
        return problems
    return [] if file.has_rows() else [Problem(file.name, "the file has a header and no rows", line=1)]


def unreadable(error: BaseException) -> str:
    """Why a file cannot be read, in one line."""
    return f"cannot be read: {getattr(error, 'strerror', None) or error or type(error).__name__}"


def _header_problems(file: str, header: list[str], table: Table) -> Iterator[Problem]:
    missing = [column for column in table.column_names if column not in header]
    for name in sorted(set(header) - set(table.column_names)):
        hint = _near(name, missing)
        yield Problem(file, f"unknown column{hint}", line=1, column=name)
    counts = Counter(header)
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield Problem(file, f"the column is there {counts[name]} times", line=1, column=name)
    for column in table.columns:
        if column.name not in counts and not column.optional:
            yield Problem(file, "the column is missing", line=1, column=column.name)


def _near(name: str, known: list[str]) -> str:
    by_lower = {candidate.strip().lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.75)
    return f': did you mean "{by_lower[close[0]]}"?' if close else ""


def _missing_folder(folder: Path) -> str:
    if not folder.parent.is_dir():
        return f"{folder} is missing, and so is {folder.parent}"
    months = sorted(path.name for path in folder.parent.glob("month_*"))
    there = f"{folder.parent} has {', '.join(months[:12])}" if months else f"{folder.parent} has no month in it"
    return f"{folder} is missing, {there}"
