"""Landing: a month's files go into the staging tables by COPY, several at once, as the bytes that they are."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from loader.contracts import Table
from loader.database import Connection, Database
from loader.ddl import staging_ddl
from loader.deliveries import Delivery, Problem, unreadable
from loader.errors import SurroundingsFailed
from loader.files import UNREADABLE, SourceFile

CONNECTIONS = 2
LONGEST_LINE = 1 << 22
END_OF_DATA = re.compile(rb"(?:\A|\n|\r)\\\.(?:\r|\n|\Z)")
"""A line `\\.`: PostgreSQL before version 18 stops reading a file there, without a word."""

Advance = Callable[[str, int], None]
"""Told a file's name and how many more bytes of it have gone in."""

NOT_A_DATE = rb"(?m)^(?:[^,\n]*,){%d}(?!\d{4}-\d\d-\d\d[,\r\n]|[,\r\n])"
"""A line in whose n-th field there may be something else than a date as the contract wants it."""


class NotTaken(Exception):
    """A file holds something that must not land: `problem` is what it was stopped at, diagnosis.py finds everything."""

    def __init__(self, table: Table, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.table, self.problem = table, problem


class Suspicious(Exception):
    """A date column may hold something that is not a date as the contract wants it."""


@dataclass(frozen=True)
class LandedFile:
    """What went into one staging table. `sha256` is of the file's bytes, unpacked."""

    table: str
    file: str
    sha256: str
    bytes: int
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


@dataclass(frozen=True)
class Landing:
    """What landed, what was wrong with files as a whole, and the tables whose files hold wrong values."""

    files: list[LandedFile]
    problems: list[Problem]
    not_taken: list[NotTaken]


def land(
    database: Database,
    delivery: Delivery,
    tables: Sequence[Table],
    files: Mapping[str, SourceFile],
    advance: Advance,
) -> Landing:
    """Replace the contents of staging by the delivery's files; a table without a file is left empty.

    Each file is one transaction, and a file that is not taken leaves its table as it was.
    """

    def size(table: Table) -> int:
        return files[table.name].size if table.name in files else 0

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        jobs = {
            table.name: pool.submit(_land_file, database, delivery, table, files.get(table.name), advance)
            for table in sorted(tables, key=size, reverse=True)
        }
    results = {table.name: jobs[table.name].result() for table in tables}
    return Landing(
        [result for result in results.values() if isinstance(result, LandedFile)],
        [result for result in results.values() if isinstance(result, Problem)],
        [result for result in results.values() if isinstance(result, NotTaken)],
    )


def _land_file(
    database: Database, delivery: Delivery, table: Table, file: SourceFile | None, advance: Advance
) -> LandedFile | Problem | NotTaken | None:
    with database.connect() as connection:
        if file is None:
            with new_staging_table(connection, table, delivery):
                return None
        before = file.fingerprint()
        try:
            landed = _copy_watching_dates(connection, delivery, table, file, advance)
        except NotTaken as error:
            return error
        except (psycopg.DataError, psycopg.errors.CheckViolation) as error:
            line = re.search(r", line (\d+)", error.diag.context or "")
            reason = error.diag.message_primary or str(error)
            return NotTaken(table, Problem(file.name, reason, int(line.group(1)) if line else None))
        except psycopg.errors.LockNotAvailable:
            reason = f"staging.{table.name} is being read by another session: try again when that has ended"
            raise SurroundingsFailed(reason) from None
        except UNREADABLE as error:
            return Problem(file.name, unreadable(error))
    if file.fingerprint() != before:
        return Problem(
            file.name, "it changed while it was read, so it is still being written: try again when it is done"
        )
    return landed


@contextmanager
def new_staging_table(connection: Connection, table: Table, delivery: Delivery) -> Iterator[sql.Identifier]:
    """A transaction that makes the staging table anew; what happens inside is part of it."""
    staging = sql.Identifier("staging", table.name)
    as_of = sql.Literal(delivery.as_of)
    with connection.transaction():
        connection.execute("set local lock_timeout = '10s'")
        connection.execute(sql.SQL("drop table if exists {}").format(staging))
        connection.execute(staging_ddl(table))
        connection.execute(sql.SQL("alter table {} alter column as_of set default {}").format(staging, as_of))
        yield staging
        connection.execute(sql.SQL("analyze {}").format(staging))


def _copy_watching_dates(
    connection: Connection, delivery: Delivery, table: Table, file: SourceFile, advance: Advance
) -> LandedFile:
    """COPY a file; where its dates look odd, read them one by one and then COPY it, or do not take it.

    Raises:
        NotTaken: a date is not one as the contract wants it.
        psycopg.DataError, psycopg.errors.CheckViolation: PostgreSQL does not take a row; nothing has changed.
    """
    header = file.header()
    positions = [n for n, name in enumerate(header) if table.column(name).data_type == "date"]
    try:
        return _copy(connection, delivery, table, file, advance, DateWatch(positions))
    except Suspicious:
        if not _all_dates(file, positions):
            raise NotTaken(table, Problem(file.name, "holds something else where a date belongs")) from None
    return _copy(connection, delivery, table, file, lambda *_: None, DateWatch([]))


def _copy(
    connection: Connection, delivery: Delivery, table: Table, file: SourceFile, advance: Advance, dates: DateWatch
) -> LandedFile:
    """COPY the file into a new staging table, hashing the bytes on their way."""
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in file.header())
    digest, size = hashlib.sha256(), 0
    with new_staging_table(connection, table, delivery) as staging, connection.cursor() as cursor:
        statement = sql.SQL(
            "copy {} ({}) from stdin with (format csv, header true, freeze true, force_null ({}), encoding 'utf8')"
        ).format(staging, columns, columns)
        with cursor.copy(statement) as copy:
            tail = b""
            for chunk in file.chunks():
                if END_OF_DATA.search(tail + chunk):
                    reason = "a line \\. which may not be there: PostgreSQL takes it for the end of the file"
                    raise NotTaken(table, Problem(file.name, reason))
                tail = chunk[-3:]
                digest.update(chunk)
                size += len(chunk)
                dates.watch(chunk)
                copy.write(chunk)
                advance(file.name, len(chunk))
            dates.watch(b"\n")
        rows = cursor.rowcount
    return LandedFile(table.name, file.name, digest.hexdigest(), size, rows)


def _all_dates(file: SourceFile, positions: list[int]) -> bool:
    """Whether every date column holds dates like 2024-01-31 and nothing else, quotes taken off."""
    with file.open() as stream:
        reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline=""))
        next(reader)
        try:
            return all(
                re.fullmatch(r"(\d{4}-\d\d-\d\d)?", row[position])
                for row in reader
                for position in positions
                if position < len(row)
            )
        except csv.Error:
            return False


class DateWatch:
    """Looks at date columns as the bytes go by, since PostgreSQL would read `today` and `Jan 5 2024` as dates too."""

    def __init__(self, positions: list[int]) -> None:
        self._patterns = [re.compile(NOT_A_DATE % position) for position in positions]
        self._rest = b""
        self._header_seen = False

    def watch(self, chunk: bytes) -> None:
        """Look at the lines that end in this chunk.

        Raises:
            Suspicious: a line may hold something else, or has no end.
        """
        if not self._patterns:
            return
        lines, newline, self._rest = (self._rest + chunk).rpartition(b"\n")
        if len(self._rest) > LONGEST_LINE:
            raise Suspicious
        if not self._header_seen and newline:
            _, _, lines = lines.partition(b"\n")
            self._header_seen = True
        if lines and any(pattern.search(lines + newline) for pattern in self._patterns):
            raise Suspicious
