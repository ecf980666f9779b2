"""Find the CSV files of one month, and their form, before any table is declared."""

from __future__ import annotations

import codecs
import csv
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import Composed

from loader.contract.names import names_of_models
from loader.contract.tables import COMMAS, MOST_COLUMNS
from loader.database import Connection
from loader.delivery import SourceFile
from loader.delivery.causes import DELIMITERS, HEAD, of_bytes
from loader.delivery.files import UNREADABLE, unreadable
from loader.errors import DataRefused, WrongUsage

OTHER_ENCODING = "windows-1252"
"""The encoding assumed for a file that is not UTF-8: most spreadsheets in Western Europe write it."""
MONTH = re.compile(
    r"(?<!\d)[-_. ]?(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])(?:[-_.]?(?:0[1-9]|[12]\d|3[01])(?![^\W_]))?(?!\d)"
)
"""A month or a date in the name of a file."""
TEMPLATE = re.compile(r"\{[{%#]")
"""The start of a Jinja tag, which dbt renders even in YAML files."""


@dataclass(frozen=True)
class Export:
    """One file: its path, the table that it becomes, its header, its delimiter, and its encoding."""

    path: Path
    table: str
    header: tuple[str, ...]
    delimiter: str
    encoding: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    @property
    def meta(self) -> dict[str, Any]:
        """The properties that the contract has to declare, because they differ from the defaults."""
        plain = glob.escape(re.sub(r"\.gz$", "", self.name, flags=re.IGNORECASE))
        stem = _stem(self.path)
        if _without_month(stem) != stem:
            plain = MONTH.sub(lambda found: re.sub(r"\d", "?", found[0]), plain, count=1)
        written = {"delimiter": self.delimiter, "encoding": self.encoding, "files": plain}
        usual = {"delimiter": ",", "encoding": "utf-8", "files": f"{self.table}.csv"}
        return {key: value for key, value in written.items() if value != usual[key]}

    def copy(self, connection: Connection, command: Composed) -> None:
        """Copy it into the database.

        Raises:
            DataRefused: PostgreSQL cannot read it as CSV.
        """
        try:
            with connection.cursor().copy(command) as copy:
                for chunk in SourceFile(self.path).chunks():
                    copy.write(chunk)
        except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded) as error:
            where = (error.diag.context or "").split(":")[0].removeprefix("COPY ")
            is_other = isinstance(error, psycopg.errors.CharacterNotInRepertoire)
            remedy = ' Export it as UTF-8, which spreadsheets call "CSV UTF-8".' if is_other else ""
            reason = f"{error.diag.message_primary} ({where})"
            raise DataRefused(f"{self.path} cannot be read: {reason}.{remedy}") from None


def exports(folder: Path) -> list[Export]:
    """The CSV files of a folder, in the order of their names.

    Raises:
        WrongUsage: there is no such folder, or no CSV file in it.
        DataRefused: a file is no text with a usable header, or two files would become the same table.
    """
    if not folder.is_dir():
        raise WrongUsage(f"{folder} is not a folder: --from names one with a month's CSV files.")
    paths = sorted(path for path in folder.iterdir() if re.fullmatch(r".+\.csv(\.gz)?", path.name, re.IGNORECASE))
    if not paths:
        raise WrongUsage(f"{folder} has no CSV file: --from names a folder with a month's CSV files.")
    found = [_export(path) for path in paths]
    for one, other in combinations(found, 2):
        if one.table == other.table:
            raise DataRefused(
                f"{one.name} and {other.name} would both be the table {one.table}: rename one of them or leave it out."
            )
    return found


def _export(path: Path) -> Export:
    source, table = SourceFile(path), plain_name(_without_month(_stem(path)), "table")
    try:
        with source.open() as stream:
            if cause := of_bytes(stream.read(HEAD), COMMAS):
                raise DataRefused(f"{path}: {'. '.join(cause)}.")
        encoding = _encoding(source)
        with source.open() as stream:
            first = stream.readline().decode(encoding, "replace").removeprefix("\ufeff")
    except UNREADABLE as error:
        raise DataRefused(f"{path} {unreadable(error)}.") from None
    delimiter = max(DELIMITERS, key=first.count)
    if "\r" in first.rstrip("\r\n"):
        raise DataRefused(f"{path}: its lines end in CR alone, or a column name has one: export it with LF line ends.")
    header: Sequence[str] = next(csv.reader([first], delimiter=delimiter), [])
    if TEMPLATE.search(first) or TEMPLATE.search(path.name):
        raise DataRefused(
            f"{path} has {{{{ or {{% in its name or header, which dbt would read as a template: rename it."
        )
    if not header or not all(title.strip() for title in header):
        raise DataRefused(f"{path} does not begin with a line of column names.")
    if len(header) > MOST_COLUMNS:
        raise DataRefused(f"{path} has {len(header):,} columns, and a table {MOST_COLUMNS} at most: divide it.")
    if len(set(header)) < len(header):
        raise DataRefused(f"{path} has a column twice in its header: rename one of them.")
    table = f"{table[:34]}_table" if table in names_of_models() else table
    return Export(path, table, tuple(header), delimiter, encoding)


def _stem(path: Path) -> str:
    return re.sub(r"\.csv(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _without_month(stem: str) -> str:
    """The file's name without its month, unless nothing usable remains."""
    left = MONTH.sub("", stem, count=1).lstrip("-_. ")
    return left if re.match(r"[^\W\d]", left) else stem


def _encoding(source: SourceFile) -> str:
    try:
        for _ in codecs.iterdecode(source.chunks(), "utf-8"):
            pass
    except UnicodeDecodeError:
        return OTHER_ENCODING
    return "utf-8"


def plain_name(text: str, kind: str) -> str:
    """A name of at most 40 lower-case letters, digits and underscores, for a `table` or `column`."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or kind
    return (f"{kind[0]}_{name}" if name[0].isdigit() else name)[:40]
