"""A month's delivery on disk: where its files are, and whether their headers are those of the contract."""

from __future__ import annotations

import datetime as dt
import difflib
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loader.contract.tables import Table
from loader.delivery.files import UNREADABLE, SourceFile, unreadable
from loader.delivery.records import NOT_TEXT, Broken, Record, read_records
from loader.errors import NotDelivered, WrongUsage
from loader.settings import Settings, expanded, load_settings

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

    def hashes(self) -> dict[str, str]:
        """Table -> the hash of its file. A file that cannot be read to its end is one more problem."""
        hashes = {}
        for table, file in self.files.items():
            try:
                hashes[table] = file.sha256()
            except UNREADABLE as error:
                self.problems.append(Problem(file.name, unreadable(error)))
        return hashes


@dataclass(frozen=True)
class Delivery:
    """The month that was asked for: the folder of months it is in, the date it speaks for, where links may lead."""

    month: int
    data_dir: Path
    as_of: dt.date
    links_to: Path | None = None

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
        found = Found({}, [])
        try:
            there = self._files()
        except UNREADABLE as error:
            place = self.folder if self.folder.exists() else self.archive
            return Found({}, [Problem(place.name, unreadable(error))])
        for table in tables:
            wanted = f"{table.name}.csv"
            matching = [file for file in there if file.base in {wanted, f"{wanted}.gz"}]
            if not matching:
                hint = _near(wanted, (file.base for file in there))
                found.problems.append(Problem(wanted, f"the file is missing{hint}"))
            elif len(matching) > 1:
                names = ", ".join(file.name for file in matching)
                found.problems.append(Problem(wanted, f"is there more than once: {names}"))
            else:
                file, problems = _look(matching[0], table)
                found.problems.extend(problems)
                if not problems:
                    found.files[table.name] = file
        return found

    def _files(self) -> list[SourceFile]:
        if self.folder.exists() and self.archive.exists():
            raise FileExistsError(f"{self.archive.name} is there too: take one of them away")
        if self.archive.exists():
            packed = SourceFile(self.archive, links_to=self.links_to)
            with packed.opened() as stream, zipfile.ZipFile(stream) as archive:
                return [replace(packed, member=name) for name in archive.namelist() if not name.endswith("/")]
        if not self.folder.exists():
            raise NotDelivered(f"month {self.label} is not there: {_missing_folder(self.folder)}")
        return [SourceFile(path, links_to=self.links_to) for path in sorted(self.folder.iterdir())]


def find_delivery(
    settings: Settings, month: int, data_dir: Path | None = None, as_of: dt.date | None = None
) -> Delivery:
    """The delivery of a month: by default in the settings' data_dir and as of the month's last day."""
    folder = expanded(data_dir) if data_dir else settings.data_dir
    return Delivery(month, folder, as_of or settings.as_of(month), settings.links_to)


def parse_month(text: str) -> int:
    """The number of a month given as 1, 001, month_001 or by its date, 2024-02; WrongUsage for anything else."""
    if date := re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text.strip(), re.ASCII):
        number = load_settings().number_of(int(date[1]), int(date[2]))
        if number < 0:
            raise WrongUsage(f"{text} is before the first month of all, STREAMFLOW_FIRST_MONTH.")
        return number
    match = re.fullmatch(r"(?:month_)?(\d{1,4})", text.strip(), re.ASCII)
    if match is None:
        raise WrongUsage(f'"{text}" is not a month: give its number, like 001, or its date, like 2024-02.')
    return int(match.group(1))


def parse_months(text: str) -> list[int]:
    """The numbers of one month, or of the first and the last of several: 000..011; WrongUsage for anything else."""
    first, dots, last = text.partition("..")
    months = list(range(parse_month(first), parse_month(last if dots else first) + 1))
    if not months:
        raise WrongUsage(f'"{text}" has no month in it: give the earlier one first, like 000..011.')
    return months


def _look(file: SourceFile, table: Table) -> tuple[SourceFile, list[Problem]]:
    """A file with what is seen of it, and what is wrong with it as a whole, or with its header."""
    try:
        file = file.looked_at()
        if not file.size:  # nor is one read that only seems to be, as those in /proc
            return file, [Problem(file.name, "the file is empty", line=1)]
        records = read_records(file)
        header = next(records, None)
        if header is None or not header.fields:
            return file, [Problem(file.name, "the first line is empty", line=1)]
        if reason := _unusable(header):
            return file, [Problem(file.name, reason, line=1)]
        file = replace(file, columns=tuple(header.fields))
        problems = list(_header_problems(file.name, header.fields, table))
        if not problems and not any(record.text.strip("\r\n") for record in records):
            problems = [Problem(file.name, "the file has a header and no rows", line=1)]
        return file, problems
    except Broken as error:
        return file, [Problem(file.name, str(error), error.line)]
    except UNREADABLE as error:
        return file, [Problem(file.name, unreadable(error))]


def _unusable(header: Record) -> str | None:
    """Why no names can be read from a header."""
    if NOT_TEXT.search(header.text):
        return "the header is not UTF-8, or has a NUL byte in it"
    if header.end == "\r":
        return "its lines end in CR alone, where LF or CRLF belongs"
    return None if header.is_well_quoted else "the header is not CSV: a quote within a name"


def _header_problems(file: str, header: list[str], table: Table) -> Iterator[Problem]:
    known = {name for column in table.columns for name in column.names}
    missing = [column.name for column in table.columns if not set(header).intersection(column.names)]
    for name in sorted(set(header) - known):
        yield Problem(file, f"unknown column{_near(name, missing)}", line=1, column=name)
    counts = Counter(header)
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield Problem(file, f"the column is there {counts[name]} times", line=1, column=name)
    for column in table.columns:
        if column.name in missing and not column.may_be_missing:
            yield Problem(file, "the column is missing", line=1, column=column.name)
        if len(both := [name for name in column.names if name in header]) > 1:
            reason = f"the column is there under {len(both)} names: {', '.join(both)}"
            yield Problem(file, reason, line=1, column=column.name)


def _near(name: str, known: Iterable[str]) -> str:
    by_lower = {candidate.strip().lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.75)
    return f': did you mean "{by_lower[close[0]]}"?' if close else ""


def _missing_folder(folder: Path) -> str:
    if not folder.parent.is_dir():
        return f"{folder} is missing, and so is {folder.parent}"
    months = sorted(path.name for path in folder.parent.glob("month_*"))
    return f"{folder} is missing, {folder.parent} has {', '.join(months[:12]) or 'no month in it'}"
