"""Landing: COPY a month's files into the staging tables, several at once, as undecoded bytes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from loader.contract.tables import Table
from loader.database import Connection, Database, identifiers, retries, statement
from loader.delivery import UNREADABLE, Delivery, Problem, SourceFile, TableFiles, Unfit, checked, hash_of, unreadable
from loader.errors import SurroundingsFailed
from loader.landing.forgotten import take_out

PLANNED_WITHOUT_STATISTICS = 50_000
"""Up to this many rows, every plan of an audit is fast."""

PATIENCE = "10s"
"""How long a landing waits for sessions that read a staging table that it replaces."""

UNANSWERED = 5
"""Seconds to wait for the server to take a request to cancel a statement."""

COPY = (
    "copy {} ({}) from stdin with"
    " (format csv, header true, freeze true, force_null ({}), encoding {}, delimiter {}, quote {})"
)


@dataclass(frozen=True)
class LandedFile:
    """What landed in one staging table. `sha256` is the hash of the file's unpacked bytes.

    If a table has several files, `parts` has one entry for each, and `sha256` is the hash of their hashes. `content`
    identifies the table's rows: TableFiles.content. It is empty in `parts`.
    """

    table: str
    file: str
    sha256: str
    bytes: int
    rows: int
    content: str = ""
    parts: list[LandedFile] = field(default_factory=list)


@dataclass(frozen=True)
class Landing:
    """What landed, and each table whose files did not land with the first problem that was found."""

    files: list[LandedFile]
    not_taken: dict[str, Problem]


def land(
    database: Database,
    delivery: Delivery,
    tables: Sequence[Table],
    files: Mapping[str, TableFiles],
    at_once: int,
    load_id: int,
) -> Landing:
    """Replace the staging tables by the files of an attempt, `at_once` tables at a time; without files, one is empty.

    Each table is one transaction in a session of its own, so a file that is not taken leaves its table as it was. An
    exception, or an interrupt, ends the landing of the other tables too.

    Raises:
        ConnectionLost, SurroundingsFailed: see new_staging_table.
    """
    given_up, connections = threading.Event(), list[Connection]()

    def land_one(table: Table) -> LandedFile | Problem | None:
        with database.connect() as connection:
            connections.append(connection)
            if table.name in files:
                return _land_table(connection, delivery, table, files[table.name], load_id, given_up)
            with new_staging_table(connection, table, delivery, load_id):
                return None

    largest_first = sorted(tables, key=lambda table: files[table.name].size if table.name in files else 0, reverse=True)
    with ThreadPoolExecutor(at_once) as pool:
        try:
            names = [table.name for table in largest_first]
            ended = dict(zip(names, pool.map(land_one, largest_first), strict=True))
        except BaseException:
            given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for connection in connections:
                with suppress(psycopg.Error):  # the server may be gone; what ended the landing is to be told
                    connection.cancel_safe(timeout=UNANSWERED)
            raise
    declared = {table.name: ended[table.name] for table in tables}
    return Landing(
        [result for result in declared.values() if isinstance(result, LandedFile)],
        {name: result for name, result in declared.items() if isinstance(result, Problem)},
    )


@contextmanager
def new_staging_table(
    connection: Connection, table: Table, delivery: Delivery, load_id: int
) -> Iterator[sql.Identifier]:
    """Recreate the staging table, empty, in a transaction that includes the body of the `with` statement.

    Raises:
        ConnectionLost: another attempt has begun since, as this one has lost the run lock.
        SurroundingsFailed: a session reads the table too long, streamflow did not make it, or objects depend on it.
    """
    staging, name = sql.Identifier("staging", table.name), f"staging.{table.name}"
    with connection.transaction():
        if connection.execute(statement(__file__, "stranger"), [table.name]).fetchone():
            raise SurroundingsFailed(
                f"{name} was not made by streamflow, which makes its own table of that name for each month, so nothing"
                " was dropped. Move it to another schema (alter ... set schema ...) or drop it, then try again."
            )
        connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
        connection.execute("set local citus.enable_local_execution = off")  # see ops.spread
        try:
            connection.execute(sql.SQL("drop table if exists {}").format(staging))
            columns = [{"name": column.name, "type": column.data_type} for column in table.columns]
            values = [staging.as_string(), Jsonb(columns), list(table.key)]
            connection.execute("select ops.create_table(%s, 'staging', %s, %s)", values)
        except psycopg.errors.LockNotAvailable:
            reason = f"{name} is being read by another session: try again when that has ended"
            raise SurroundingsFailed(reason) from None
        except psycopg.errors.DependentObjectsStillExist as error:
            raise SurroundingsFailed(
                f"{name} cannot be recreated, as every landing has to: {error.diag.message_detail}. Drop the dependent"
                f" object, or have it read latest.{table.name}, then try again."
            ) from None
        # asked under the table's lock: an attempt that begins later lands after this transaction
        if not connection.execute(statement(__file__, "running"), [load_id]).fetchone():
            raise retries.ConnectionLost(
                "another run has begun since, as this one had lost its connection to the database, and its lock with it"
            )
        default = sql.SQL("alter table {} alter column as_of set default {}")
        connection.execute(default.format(staging, sql.Literal(delivery.as_of)))
        yield staging


def _land_table(
    connection: Connection,
    delivery: Delivery,
    table: Table,
    files: TableFiles,
    load_id: int,
    given_up: threading.Event,
) -> LandedFile | Problem:
    """COPY the files of a table into a new staging table, one after the other, so that rows keep the files' order."""
    file, parts = files.parts[0], list[LandedFile]()
    try:
        with new_staging_table(connection, table, delivery, load_id) as staging:
            for file in files.parts:
                parts.append(_copy(connection, staging, table, file, given_up))
            rows = sum(part.rows for part in parts) - take_out(connection, staging, table)
            if rows > PLANNED_WITHOUT_STATISTICS:  # enough to plan audits by, in a tenth of the time
                connection.execute("set local default_statistics_target = 10")
                connection.execute(sql.SQL("analyze {}").format(staging))
    except (Unfit, psycopg.DataError, psycopg.IntegrityError, psycopg.InternalError) as error:
        # Citus reports a node's error about a row as an internal error
        return Problem(file.name, str(error).partition("\n")[0])
    except UNREADABLE as error:
        return Problem(file.name, unreadable(error))
    sha256, size = hash_of([part.sha256 for part in parts]), sum(part.bytes for part in parts)
    several = parts if len(parts) > 1 else []
    return LandedFile(table.name, files.name, sha256, size, rows, files.content(sha256), several)


def _copy(
    connection: Connection, staging: sql.Identifier, table: Table, file: SourceFile, given_up: threading.Event
) -> LandedFile:
    """COPY a file, hashing and checking its bytes on the way; stop if the landing is given up."""
    digest, size, form = hashlib.sha256(), 0, table.form
    columns = identifiers(table.declared(file.columns))
    kinds = {name: table.column(name).data_type for name in file.columns}
    options = map(sql.Literal, (form.encoding, form.delimiter, form.quote))

    def chunks() -> Iterator[bytes]:
        nonlocal size
        for chunk in file.chunks():
            digest.update(chunk)
            size += len(chunk)
            yield chunk
            if given_up.is_set():
                raise SurroundingsFailed("landing was interrupted")

    with connection.cursor() as cursor:
        with cursor.copy(sql.SQL(COPY).format(staging, columns, columns, *options)) as copy:
            for records in checked(chunks(), kinds, form, table.key_in(file.columns)):
                copy.write(records)
        return LandedFile(table.name, file.name, digest.hexdigest(), size, cursor.rowcount)
