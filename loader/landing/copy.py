"""Landing: a month's files go into the staging tables by COPY, several at once, as the bytes that they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from loader.contract.tables import Table
from loader.database.connect import Connection, Database
from loader.database.ddl import staging_ddl
from loader.delivery.csv_contract import Unfit, Watch
from loader.delivery.deliveries import Delivery, Problem, unreadable
from loader.delivery.files import UNREADABLE, SourceFile
from loader.errors import SurroundingsFailed

PLANNED_WITHOUT_STATISTICS = 50_000
"""Rows up to which any plan of an audit is a fast one."""

Advance = Callable[[str, int], None]
"""Told a file's name and how many more bytes of it have gone in."""


class NotTaken(Exception):
    """A file holds something that must not land: `problem` is what it was stopped at, diagnosis.py finds everything."""

    def __init__(self, table: Table, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.table, self.problem = table, problem


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
    at_once: int,
) -> Landing:
    """Replace what staging holds by the delivery's files, `at_once` at a time; a table without a file is left empty.

    Each file is one transaction, and a file that is not taken leaves its table as it was.
    """

    def size(table: Table) -> int:
        return files[table.name].size if table.name in files else 0

    with ThreadPoolExecutor(at_once) as pool:
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
            landed = _copy(connection, delivery, table, file, advance)
        except Unfit as error:
            return NotTaken(table, Problem(file.name, str(error)))
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.InternalError) as error:
            # as an internal error Citus passes on what a node finds in a row
            return NotTaken(table, Problem(file.name, error.diag.message_primary or str(error)))
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
        for statement in staging_ddl(table):
            connection.execute(statement)
        connection.execute(sql.SQL("alter table {} alter column as_of set default {}").format(staging, as_of))
        yield staging


def _copy(connection: Connection, delivery: Delivery, table: Table, file: SourceFile, advance: Advance) -> LandedFile:
    """COPY the file into a new staging table, hashing and watching the bytes on their way.

    Raises:
        Unfit: the file holds something that PostgreSQL would take and the contract does not; nothing has changed.
        psycopg.DataError, psycopg.errors.CheckViolation: PostgreSQL does not take a row; nothing has changed.
    """
    header = file.header()
    watch = Watch([table.column(name).data_type for name in header])
    columns = sql.SQL(", ").join(map(sql.Identifier, header))
    digest, size = hashlib.sha256(), 0
    with new_staging_table(connection, table, delivery) as staging, connection.cursor() as cursor:
        statement = sql.SQL(
            "copy {} ({}) from stdin with (format csv, header true, freeze true, force_null ({}), encoding 'utf8')"
        ).format(staging, columns, columns)
        with cursor.copy(statement) as copy:
            for chunk in file.chunks():
                watch.see(chunk)
                digest.update(chunk)
                size += len(chunk)
                copy.write(chunk)
                advance(file.name, len(chunk))
            watch.end()
        rows = cursor.rowcount
        if rows > PLANNED_WITHOUT_STATISTICS:
            cursor.execute(
                "set local default_statistics_target = 10"
            )  # enough to plan audits by, in a tenth of the time
            cursor.execute(sql.SQL("analyze {}").format(staging))
    return LandedFile(table.name, file.name, digest.hexdigest(), size, rows)
