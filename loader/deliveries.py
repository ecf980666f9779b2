"""A month's delivery on disk: which files it has, and whether their headers are those of the contract."""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loader.contracts import Table
from loader.errors import WrongUsage
from loader.settings import Settings

CHUNK = 1 << 18
HEADER_LIMIT = 1 << 20


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
class Delivery:
    """The month that was asked for: where its files are and what date it speaks for."""

    month: int
    folder: Path
    as_of: dt.date

    @property
    def label(self) -> str:
        """The month as people write it: three digits."""
        return f"{self.month:03d}"

    def file(self, table: Table) -> Path:
        """Where the file of a table must be."""
        return self.folder / f"{table.name}.csv"

    def find_problems(self, tables: Sequence[Table]) -> list[Problem]:
        """What can be said against the delivery before a row is read: folder, files and headers."""
        if not self.folder.is_dir():
            return [Problem(str(self.folder), _missing_folder(self.folder))]
        return [problem for table in tables for problem in _file_problems(self.file(table), table)]


def find_delivery(
    settings: Settings, month: int, data_dir: Path | None = None, as_of: dt.date | None = None
) -> Delivery:
    """The delivery of a month: by default in the settings' data_dir and as of the month's last day."""
    folder = (data_dir or settings.data_dir).expanduser() / f"month_{month:03d}"
    return Delivery(month, folder, as_of or settings.as_of(month))


def parse_month(text: str) -> int:
    """The number of a month given as 1, 001 or month_001.

    Raises:
        WrongUsage: it is none of these.
    """
    match = re.fullmatch(r"(?:month_)?(\d{1,4})", text.strip())
    if match is None:
        raise WrongUsage(f'"{text}" is not a month: give its number, like 001.')
    return int(match.group(1))


def sha256(path: Path) -> str:
    """The hex digest of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _file_problems(path: Path, table: Table) -> list[Problem]:
    if path.is_dir():
        return [Problem(path.name, "is a folder, not a file")]
    if not path.is_file():
        return [Problem(path.name, "the file is missing" + _near(path.name, [p.name for p in path.parent.iterdir()]))]
    try:
        return _content_problems(path, table)
    except OSError as error:
        return [Problem(path.name, f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError:
        return [Problem(path.name, "the header is not UTF-8", line=1)]
    except csv.Error as error:
        return [Problem(path.name, f"the header is not CSV: {error}", line=1)]


def _content_problems(path: Path, table: Table) -> list[Problem]:
    header = read_header(path)
    if not header:
        return [Problem(path.name, "the file is empty")]
    if problems := list(_header_problems(path.name, header, table)):
        return problems
    return [] if has_rows(path) else [Problem(path.name, "the file has a header and no rows", line=1)]


def read_header(path: Path) -> list[str]:
    """The column names in the first line of a CSV file, a byte-order mark taken off; [] for an empty file."""
    with path.open("rb") as stream:
        head = stream.read(HEADER_LIMIT)
    first = head.splitlines()[0] if head else b""
    return next(csv.reader(io.StringIO(first.decode("utf-8-sig")), strict=True), [])


def has_rows(path: Path) -> bool:
    """Whether anything but line ends follows the header."""
    with path.open("rb") as stream:
        stream.readline()
        return any(chunk.strip() for chunk in iter(lambda: stream.read(CHUNK), b""))


def _header_problems(file: str, header: list[str], table: Table) -> Iterator[Problem]:
    for name in sorted(set(header) - set(table.column_names)):
        hint = _near(name, [column for column in table.column_names if column not in header])
        yield Problem(file, f"unknown column{hint}", line=1, column=name)
    for name in sorted({name for name in header if header.count(name) > 1}):
        yield Problem(file, f"the column is there {header.count(name)} times", line=1, column=name)
    for column in table.columns:
        if column.name not in header and not column.optional:
            yield Problem(file, "the column is missing", line=1, column=column.name)


def _near(name: str, known: list[str]) -> str:
    by_lower = {candidate.strip().lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.75)
    return f': did you mean "{by_lower[close[0]]}"?' if close else ""


def _missing_folder(folder: Path) -> str:
    if folder.exists():
        return "is a file, not a folder"
    if not folder.parent.is_dir():
        return f"the folder is missing, and so is {folder.parent}"
    months = sorted(path.name for path in folder.parent.glob("month_*") if path.is_dir())
    there = f"{folder.parent} has {', '.join(months[:12])}" if months else f"{folder.parent} has no month in it"
    return f"the folder is missing: {there}"
