"""What the modules of upkeep share: the run lock, one transaction with readable errors, proof of history, links of the
chain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from loader import ledger
from loader.database import Connection, is_cluster, open_database, statement, value
from loader.errors import SurroundingsFailed, WrongUsage, in_the_way
from loader.ledger import chain
from loader.ledger.chain import Entry
from loader.settings import Settings

PATIENCE = "10s"
"""How long to wait for a lock on a table that others read or write."""


@contextlib.contextmanager
def locked(settings: Settings, *, changes: bool = True) -> Iterator[Connection]:
    """Open a connection that holds the run lock, and bring an existing ledger to this version.

    Without `changes` the ledger stays as it is; one of another version raises SurroundingsFailed.
    """
    with contextlib.closing(open_database(settings).connect()) as connection:
        ledger.lock(connection)
        if not changes:
            ledger.require_current(connection)
        elif ledger.exists(connection):
            ledger.prepare(connection)
        yield connection


def entries(connection: Connection, nothing: str) -> list[Entry]:
    """The ledger's entries of history and of replaced rows.

    Args:
        nothing: how an error message begins, like "nothing was changed".

    Raises:
        WrongUsage: there is no ledger.
        SurroundingsFailed: an entry does not match the chain.
    """
    if not ledger.exists(connection):
        raise WrongUsage(f"{nothing}: no month was ever ingested into this database.")
    found = chain.entries(connection)
    for entry in found:
        if entry.wrong:
            raise _not_as_written(entry, entry.wrong, nothing)
    return found


def archived(entries: Iterable[Entry]) -> str:
    """The dates of archived entries, as one text; empty if there are none."""
    return ", ".join(sorted({str(entry.as_of) for entry in entries if entry.event == "archived"}))


def require_proved(connection: Connection, entries: Iterable[Entry], nothing: str) -> None:
    """Require that the tables have the rows that the ledger records.

    Raises:
        SurroundingsFailed: a table has other rows.
    """
    for entry in entries:
        if measured(connection, entry.relation, entry.covered) != (entry.rows, entry.checksum):
            raise _not_as_written(entry, "its rows or their checksum are not those of the ledger", nothing)


def _not_as_written(entry: Entry, reason: str, nothing: str) -> SurroundingsFailed:
    return SurroundingsFailed(
        f"{nothing}: {entry.table_name} of {entry.as_of}: {reason}. `streamflow verify` says more."
    )


DEPENDS = (
    psycopg.errors.DependentObjectsStillExist, psycopg.errors.ForeignKeyViolation, psycopg.errors.CheckViolation,
)  # fmt: skip
"""Errors because of views, foreign keys or checks that others made."""


@contextlib.contextmanager
def all_or_nothing(connection: Connection, nothing: str) -> Iterator[None]:
    """One transaction. A missing right, a table in use or a dependent object raises SurroundingsFailed with a hint."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
            if is_cluster(connection):
                connection.execute("set local citus.enable_unsafe_triggers = on")
            yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise SurroundingsFailed(
            f"{nothing}: {error.diag.message_primary or error}. Have a superuser run this, or the owner of the database"
            " and of all that streamflow made in it."
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise SurroundingsFailed(f"{nothing}: a table is in use. Try again when nobody reads it.") from None
    except (psycopg.ProgrammingError, psycopg.NotSupportedError, *DEPENDS) as error:
        raise in_the_way(nothing, error) from None


def measured(connection: Connection, relation: sql.Identifier, columns: Sequence[str]) -> tuple[int, Decimal]:
    """The number of rows of a table, and their checksum over the given columns."""
    rows = value(connection, sql.SQL("select count(*) from {}").format(relation))
    checksum = "select ops.checksum(%s::regclass, %s::text [])"  # Citus would run both in one in another session
    return rows, value(connection, checksum, [relation.as_string(connection), columns])


def enter(
    connection: Connection,
    entry: Entry,
    *,
    checksum: Decimal,
    covered: Sequence[str],
    fewer: int = 0,
    fewer_delivered: int = 0,
) -> None:
    """Enter a new checksum and its columns, and subtract `fewer` rows, of which `fewer_delivered` were delivered."""
    name = "enter_history" if entry.schema_name == "history" else "enter_restated"
    which = {"table": entry.table_name, "as_of": entry.as_of, "load": entry.load_id}
    counts = {"fewer": fewer, "fewer_delivered": fewer_delivered}
    connection.execute(statement(__file__, name), {**which, **counts, "checksum": checksum, "covered": list(covered)})


def record_of(entry: Entry, **changed: Any) -> dict[str, Any]:
    """The record of a table and date for the chain, with `changed` values."""
    known = {"table": entry.table_name, "as_of": str(entry.as_of), "load": entry.load_id}
    return {**known, "rows": entry.rows, "checksum": int(entry.checksum), **changed}


def add_link(connection: Connection, event: str, tables: Sequence[dict[str, Any]], **more: Any) -> chain.Link:
    """Add a link to the chain, in the name of whoever runs this, and return it."""
    tells = Jsonb({"event": event, "by": ledger.who(), "tables": tables, **more})
    connection.execute(statement(__file__, "tell"), [tells])
    return chain.links(connection)[-1]
