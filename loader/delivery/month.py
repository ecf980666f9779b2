"""A month's delivery: where its files are, and whether their names and headers match the contract."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from loader.contract.tables import Table
from loader.delivery.causes import did_you_mean
from loader.delivery.files import UNREADABLE, SourceFile, TableFiles, hash_of, unreadable
from loader.delivery.headers import look
from loader.delivery.problem import Problem
from loader.errors import NotDelivered, WrongUsage
from loader.project import expanded
from loader.settings import ADDRESS, YEAR_AND_MONTH, Settings, load_settings

MONTH = re.compile(rf"month_(?:\d{{3}}|[1-9]\d{{3}})|{YEAR_AND_MONTH}", re.ASCII)
"""Names that a month's folder may have, and its archive with .zip added."""
LISTED = 12
"""The most names that a message lists."""
MISSING = "the file is missing"

TakenBy = Sequence[tuple[SourceFile, Sequence[str]]]
"""The files that are there, each with the tables that take it: often none, and more than one is an error."""


def is_address(place: str | Path) -> bool:
    """Whether a folder of months is an address such as s3://..., and not a path on this machine."""
    return bool(re.match(ADDRESS, str(place)))


def redacted(text: str) -> str:
    """Remove user, password and query string from the addresses in a text, so that it may be written down.

    A password may contain blanks and quotes, so everything up to the last @ goes.
    """
    return re.sub(r"(://).*@|\?[^\s'\"]*", r"\1", text)


@dataclass(frozen=True)
class Found:
    """The readable files of a delivery by table, and what is wrong with the folder, the files and their headers."""

    files: dict[str, TableFiles]
    problems: list[Problem]

    def look_at(self, files: Sequence[SourceFile], table: Table) -> None:
        """Look at the files of a table, then add them to `files`, or what is wrong with them to `problems`."""
        names = [file.base.removesuffix(".gz") for file in files]
        if twice := [file.name for file, name in zip(files, names, strict=True) if names.count(name) > 1]:
            self.problems.append(Problem(table.wanted, f"is there more than once: {', '.join(twice)}"))
            return
        parts, problems = zip(*(look(file, table) for file in files), strict=True)
        self.problems.extend(chain(*problems))
        if not any(problems):
            header = {name for part in parts for name in part.columns}
            self.files[table.name] = TableFiles(parts, table.read_as(header))

    def hashes(self) -> dict[str, str]:
        """Table -> the hash of its files. Adds a problem for a table whose files cannot be read to the end."""
        hashes = {}
        for table, files in self.files.items():
            try:
                hashes[table] = hash_of([part.sha256() for part in files.parts])
            except UNREADABLE as error:
                self.problems.append(Problem(files.name, unreadable(error)))
        return hashes

    def contents(self, hashes: Mapping[str, str], known: Mapping[str, str | None]) -> dict[str, str]:
        """Table -> what identifies the rows of its files: TableFiles.content.

        Args:
            hashes: table -> the hash of its files.
            known: table -> the content in the ledger. Version 0.2.0 entered hashes: such files count as the same.
        """
        for table, sha256 in hashes.items():
            if known.get(table) == sha256:
                self.files[table] = replace(self.files[table], same_as=sha256)
        return {table: self.files[table].content(sha256) for table, sha256 in hashes.items()}


@dataclass(frozen=True)
class Delivery:
    """The requested month: the folder of months that has it, its as_of date, and where links may lead.

    `calendar` is the month as 2024-02, which may also be the name of its folder or archive.
    """

    month: int
    data_dir: Path
    as_of: dt.date
    calendar: str
    links_to: Path | None = None
    address: str | None = None
    """The address of the folder of months, if it is not on this machine."""
    is_dated: bool = False
    """Whether the caller chose the date; otherwise it follows from STREAMFLOW_FIRST_MONTH."""

    @property
    def origin(self) -> str:
        """The folder of months, or its address without user, password and query string."""
        return redacted(self.address) if self.address else str(self.data_dir)

    @property
    def label(self) -> str:
        """The month as people write it: at least three digits."""
        return f"{self.month:03d}"

    @property
    def names(self) -> list[str]:
        """Names that its folder may have, and its archive with .zip added."""
        return [f"month_{self.label}", self.calendar]

    @property
    def there(self) -> list[Path]:
        """Its folder or archive, if it is there; more than one is an error."""
        paths = [self.data_dir / f"{name}{end}" for name in self.names for end in ("", ".zip")]
        return [path for path in paths if path.exists()]

    def find(self, tables: Sequence[Table], may_be_missing: Collection[str] = ()) -> Found:
        """Find the files of every table and check their headers. Tables in `may_be_missing` need no file.

        Raises:
            NotDelivered: the month's folder and archive are missing, or nothing in them resembles a delivery.
        """
        name = self.names[0]
        try:
            if not (places := self.there):
                raise self._not_there()
            name = places[0].name
            there = self._files(places)
        except UNREADABLE as error:
            return Found({}, [Problem(name, unreadable(error))])
        found, missing = Found({}, []), list[str]()
        # an archive may have two of a name
        taken_by = [(file, [table.name for table in tables if table.takes(file.base)]) for file in there]
        for table in tables:
            if matching := [file for file, names in taken_by if table.name in names]:
                found.look_at(matching, table)
                found.problems.extend(_misnamed(table, taken_by))
            elif table.name not in may_be_missing:
                missing.append(table.wanted)
        found.problems.extend(self._wrong_names(places[0], missing, taken_by))
        return found

    def _files(self, places: Sequence[Path]) -> list[SourceFile]:
        place, *others = places
        if others:
            raise FileExistsError(f"{others[0].name} is there too: take one of them away")
        if place.suffix == ".zip":
            packed = SourceFile(place, links_to=self.links_to)
            with packed.opened() as stream, zipfile.ZipFile(stream) as archive:
                members = [replace(packed, member=name) for name in archive.namelist() if not name.endswith("/")]
            return sorted(members, key=lambda file: file.base)
        return [SourceFile(path, links_to=self.links_to) for path in sorted(place.iterdir())]

    def _not_there(self) -> NotDelivered | WrongUsage:
        """The error for a month that has neither a folder nor an archive; it says what is there instead."""
        place, (folder, calendar) = self.data_dir, self.names
        if place.is_file():
            return WrongUsage(f"{place} is a file: name the folder that has the months' folders and archives.")
        wanted = f"month {self.label} is not there: {place / folder} is missing, and so is"
        if not place.is_dir():
            return NotDelivered(f"{wanted} {place}")
        there = sorted(path.name for path in place.iterdir() if not path.name.startswith("."))
        return NotDelivered(f"{wanted} {calendar}; {place} has {_listed(there)}")

    def _wrong_names(self, place: Path, missing: Sequence[str], taken_by: TakenBy) -> Iterator[Problem]:
        """Yield a problem for each file that several tables would take, and for each missing file.

        Args:
            place: the folder or archive.

        Raises:
            NotDelivered: no table takes any of the files, and no missing file seems misplaced or misnamed.
        """
        for file, names in taken_by:
            if len(names) > 1:
                yield Problem(file.name, f"is a file of {' and of '.join(names)}: give them other names in `files`")
        strange = [file.base for file, names in taken_by if not names]
        problems = [_why_missing(place, wanted, strange) for wanted in missing]
        if missing and len(strange) == len(taken_by) and all(problem.reason == MISSING for problem in problems):
            has = f"{place} has {_listed(strange)}, and none of {', '.join(missing)}"
            raise NotDelivered(f"month {self.label} is not there: {has}")
        yield from problems


def _misnamed(table: Table, taken_by: TakenBy) -> Iterator[Problem]:
    """Yield a problem for each file that no table takes, and that would be a part of this one with other capitals."""
    if any(sign in table.wanted for sign in "*?["):
        lowered = table.model_copy(update={"files": table.wanted.lower()})
        for file, names in taken_by:
            if not names and lowered.takes(file.base.lower()):
                yield Problem(file.name, f"is not named like {table.wanted}: rename it")


def _why_missing(place: Path, wanted: str, strange: Sequence[str]) -> Problem:
    """Why a file may be missing. `strange` are the names of the files that no table takes."""
    for end in ("", ".gz"):
        if deeper := next(place.glob(f"*/{wanted}{end}"), None):
            remedy = f"Move the files up into {place.name}"
            return Problem(wanted, f"one folder deeper, in {deeper.parent.name}", remedy=remedy)
    return Problem(wanted, f"{MISSING}{did_you_mean(wanted, strange)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:LISTED], *(["more"] if names[LISTED:] else [])]) or "nothing"


def find_delivery(
    settings: Settings, month: int, data_dir: Path | str | None = None, as_of: dt.date | None = None
) -> Delivery:
    """The delivery of a month: by default in the settings' data_dir and as of the month's last day."""
    place = data_dir or settings.data_dir
    address = str(place) if is_address(place) else None
    folder = settings.home / "incoming" if address else expanded(Path(place)).absolute()
    last_day = settings.as_of(month)
    return Delivery(month, folder, as_of or last_day, f"{last_day:%Y-%m}", settings.links_to, address, bool(as_of))


def parse_month(text: str, settings: Settings | None = None) -> int:
    """The number of a month given as 1, 001, month_001 or by its date, 2024-02; WrongUsage for anything else."""
    if date := re.fullmatch(YEAR_AND_MONTH, text.strip(), re.ASCII):
        number = (settings or load_settings()).number_of(*map(int, date[0].split("-")))
        if number < 0:
            raise WrongUsage(
                f"{text} is before STREAMFLOW_FIRST_MONTH. If no month is published yet, set that to an earlier month."
                " Otherwise name the folder month_NNN with a number that no month has, and ingest it with --as-of."
            )
        return number
    match = re.fullmatch(r"(?:month_)?(\d{1,4})", text.strip(), re.ASCII)
    if match is None:
        raise WrongUsage(f'"{text}" is not a month: give its number, like 001, or its date, like 2024-02.')
    return int(match.group(1))


def parse_months(text: str) -> list[int]:
    """The numbers of one month, or of a range of months like 000..011; WrongUsage for anything else."""
    first, dots, last = text.partition("..")
    months = list(range(parse_month(first), parse_month(last if dots else first) + 1))
    if not months:
        raise WrongUsage(f'"{text}" is an empty range: give the earlier one first, like 000..011.')
    return months


def months_in(folder: Path) -> list[str]:
    """The labels of the months whose folders or archives are in a folder, in order."""
    found = set[int]()
    for path in folder.glob("*"):
        name = path.name.removesuffix(".zip")
        if MONTH.fullmatch(name):
            with suppress(WrongUsage):  # it is before STREAMFLOW_FIRST_MONTH
                found.add(parse_month(name))
    return [f"{number:03d}" for number in sorted(found)]
