"""What archiving, forgetting and migrating share: nobody else at work, history proved before, the chain told after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from loader import ledger
from loader.database import Connection, is_cluster, one_row, open_database, statement
from loader.errors import SurroundingsFailed, WrongUsage
from loader.ledger import chain
from loader.ledger.chain import Entry
from loader.settings import Settings

PATIENCE = "10s"
"""How long to wait for those who read or write a table."""


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[Connection]:
    """A connection that holds the lock of a run, to a ledger of this version where there is one."""
    with contextlib.closing(open_database(settings).connect()) as connection:
        ledger.lock(connection)
        if ledger.exists(connection):
            ledger.prepare(connection)
        yield connection


def entries(connection: Connection, nothing: str) -> list[Entry]:
    """What the ledger says of history and of replaced rows.

    Args:
        nothing: what did not happen, in the message where something is wrong.

    Raises:
        WrongUsage: there is no ledger.
        SurroundingsFailed: the ledger is not what the chain says.
    """
    if not ledger.exists(connection):
        raise WrongUsage(f"{nothing}: no month was ever ingested into this database.")
    found = chain.entries(connection)
    for entry in found:
        if entry.wrong:
            raise _not_as_written(entry, entry.wrong, nothing)
    return found


def archived(entries: Iterable[Entry]) -> str:
    """The dates of those that are archived, as one text; empty where none is."""
    return ", ".join(sorted({str(entry.as_of) for entry in entries if entry.event == "archived"}))


def require_proved(connection: Connection, entries: Iterable[Entry], nothing: str) -> None:
    """Go on only where the tables have the rows that the ledger says.

    Raises:
        SurroundingsFailed: one has others.
    """
    for entry in entries:
        if measured(connection, entry.relation, entry.covered) != (entry.rows, entry.checksum):
            raise _not_as_written(entry, "its rows or their checksum are not those of the ledger", nothing)


def _not_as_written(entry: Entry, reason: str, nothing: str) -> SurroundingsFailed:
    return SurroundingsFailed(
        f"{nothing}: {entry.table_name} of {entry.as_of}: {reason}. `streamflow verify` says more."
    )


@contextlib.contextmanager
def all_or_nothing(connection: Connection, nothing: str) -> Iterator[None]:
    """One transaction, and a sentence where this role may not change a table, somebody uses one, or it is needed."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
            if is_cluster(connection):
                connection.execute("set local citus.enable_unsafe_triggers = on")
            yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise SurroundingsFailed(
            f"{nothing}: {error.diag.message_primary or error}. Have a superuser run this, or who owns the database and"
            " all that streamflow made in it."
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise SurroundingsFailed(f"{nothing}: a table is in use. Try again when nobody reads it.") from None
    except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.errors.DependentObjectsStillExist) as error:
        said = "; ".join(filter(None, [error.diag.message_primary, error.diag.message_detail]))
        raise SurroundingsFailed(f"{nothing}: {said}. Drop what is in the way, try again, and make it anew.") from None


def measured(connection: Connection, relation: sql.Identifier, columns: Sequence[str]) -> tuple[int, Decimal]:
    """The rows of a table, and their checksum over some columns."""
    query = statement(__file__, "measured").format(relation=relation)
    rows, checksum = one_row(connection, query, [relation.as_string(connection), columns])
    return rows, checksum


def enter(
    connection: Connection,
    entry: Entry,
    *,
    checksum: Decimal,
    covered: Sequence[str],
    fewer: int = 0,
    fewer_delivered: int = 0,
) -> None:
    """Enter another checksum over some columns, and how many rows fewer there are, of them how many delivered ones."""
    name = "enter_history" if entry.schema_name == "history" else "enter_restated"
    which = {"table": entry.table_name, "as_of": entry.as_of, "load": entry.load_id}
    counts = {"fewer": fewer, "fewer_delivered": fewer_delivered}
    connection.execute(statement(__file__, name), {**which, **counts, "checksum": checksum, "covered": list(covered)})


def told(entry: Entry, **changed: Any) -> dict[str, Any]:
    """What the chain tells of a table and date."""
    known = {"table": entry.table_name, "as_of": str(entry.as_of), "load": entry.load_id}
    return {**known, "rows": entry.rows, "checksum": int(entry.checksum), **changed}


def tell(connection: Connection, event: str, tables: Sequence[dict[str, Any]], **more: Any) -> chain.Link:
    """Add a link to the chain, by whoever runs this, and return it."""
    tells = Jsonb({"event": event, "by": ledger.who(), "tables": tables, **more})
    (number,) = one_row(connection, statement(__file__, "tell"), [tells])
    return next(link for link in chain.links(connection) if link.link == number)
