"""Landing: a month's files go into the staging tables by COPY, several at once, as the bytes that they are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from loader.contracts import Table
from loader.database import Connection, Database
from loader.ddl import staging_ddl
from loader.deliveries import CHUNK, Delivery, Problem, read_header

CONNECTIONS = 2

Advance = Callable[[str, int], None]
"""Told a file's name and how many more bytes of it have gone in."""


@dataclass(frozen=True)
class LandedFile:
    """What went into one staging table."""

    table: str
    file: str
    sha256: str
    bytes: int
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


def land(
    database: Database, delivery: Delivery, tables: Sequence[Table], advance: Advance
) -> tuple[list[LandedFile], list[Problem]]:
    """Replace the contents of staging by the delivery's files.

    Each file is one transaction, and a file that PostgreSQL will not take leaves its table empty.

    Returns:
        What landed, in the order of the contract, and what was wrong, at least one problem for every file that did not.
    """
    by_size = sorted(tables, key=lambda table: delivery.file(table).stat().st_size, reverse=True)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        jobs = {table.name: pool.submit(_land_file, database, delivery, table, advance) for table in by_size}
    results = [jobs[table.name].result() for table in tables]
    landed = [result for result in results if isinstance(result, LandedFile)]
    return landed, [result for result in results if isinstance(result, Problem)]


def _land_file(database: Database, delivery: Delivery, table: Table, advance: Advance) -> LandedFile | Problem:
    path = delivery.file(table)
    before = path.stat()
    try:
        with database.connect() as connection:
            landed = copy_file(connection, path, table, delivery, advance)
    except (psycopg.DataError, psycopg.errors.CheckViolation) as error:
        return _problem(path.name, table, error)
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return Problem(
            path.name, "the file changed while it was read: it is still being written; try again when it is done"
        )
    return landed


def copy_file(connection: Connection, path: Path, table: Table, delivery: Delivery, advance: Advance) -> LandedFile:
    """Make the staging table anew and COPY the file into it, hashing the bytes on their way.

    Raises:
        psycopg.DataError, psycopg.errors.CheckViolation: PostgreSQL does not take a row; nothing has changed.
    """
    staging = sql.Identifier("staging", table.name)
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in read_header(path))
    copy_statement = sql.SQL(
        "copy {} ({}) from stdin with (format csv, header true, freeze true, force_null ({}), encoding 'utf8')"
    ).format(staging, columns, columns)
    digest, size = hashlib.sha256(), 0
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("drop table if exists {}").format(staging))
        cursor.execute(staging_ddl(table))
        cursor.execute(
            sql.SQL("alter table {} alter column as_of set default {}").format(staging, sql.Literal(delivery.as_of))
        )
        with path.open("rb") as stream, cursor.copy(copy_statement) as copy:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                copy.write(chunk)
                advance(path.name, len(chunk))
        rows = cursor.rowcount
        cursor.execute(sql.SQL("analyze {}").format(staging))
    return LandedFile(table.name, path.name, digest.hexdigest(), size, rows)


KINDS = {
    "numeric": "a number",
    "int": "a whole number",
    "integer": "a whole number",
    "bigint": "a whole number",
    "boolean": "true or false",
    "date": "a date like 2024-01-31",
}


def _problem(file: str, table: Table, error: psycopg.Error) -> Problem:
    """What PostgreSQL said of the row it stopped at, in words for the person who has the file."""
    context = error.diag.context or ""
    message = error.diag.message_primary or str(error)
    line = re.search(r", line (\d+)", context)
    column = re.search(r", column ([^:\n]+):? ?", context)
    value = re.search(r', column [^:\n]+: "(.*)"', context, re.DOTALL)
    name = column.group(1) if column else None
    text = value.group(1) if value else None
    if isinstance(error, psycopg.errors.CheckViolation):
        name = (error.diag.constraint_name or "").removesuffix("_is_finite")
        reason = f"not {KINDS[table.column(name).data_type]}: NaN and infinity are not values"
    elif isinstance(error, psycopg.errors.CharacterNotInRepertoire):
        reason = f"not UTF-8: {message}"
    elif isinstance(error, psycopg.errors.NumericValueOutOfRange) and name:
        reason = f"out of range for {table.column(name).data_type}"
    elif text is not None and name in table.column_names:
        data_type = table.column(name).data_type
        reason = f"not {KINDS.get(data_type, 'a value')} ({data_type})"
    else:
        reason = message
    return Problem(file, reason, line=int(line.group(1)) if line else None, column=name, value=text)
