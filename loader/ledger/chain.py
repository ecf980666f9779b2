"""The ledger's chain: the events that readers saw, in order; each link has a hash over itself and the one before."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.rows import class_row

from loader.database import Connection, statement


@dataclass(frozen=True)
class Entry:
    """History of one table, date and load, standing or replaced by a restatement, as ledger and chain describe it.

    If it is archived, `file` is the path of the Parquet file that has the rows.
    """

    table_name: str
    as_of: dt.date
    load_id: int
    rows: int
    schema_name: str | None
    partition_name: str
    checksum: Decimal
    covered: list[str]
    wrong: str | None
    event: str | None
    events: list[str]
    file: str = ""
    sha256: str | None = None

    @property
    def relation(self) -> sql.Identifier:
        """The table that has the rows."""
        return sql.Identifier(self.schema_name or "history", self.partition_name)


@dataclass(frozen=True)
class Link:
    """One event of the chain with its hash; `wrong` says what is wrong with the link, if anything."""

    link: int
    tells: dict[str, Any]
    sha256: str
    wrong: str | None

    @property
    def line(self) -> str:
        """The link as a line of a manifest: its number, its hash, and its event in short."""
        try:
            what = _said(self.tells)
        except (KeyError, TypeError):  # somebody changed it
            what = "not an event that streamflow records"
        return f"{self.link} {self.sha256} {what}"


def _said(tells: dict[str, Any]) -> str:
    event = tells["event"]
    if event == "forgotten":
        return f"{tells['at'][:10]} customers forgotten: {tells['customers']}"
    if event == "migrated":
        return f"{tells['at'][:10]} migrated: {'; '.join(tells['columns'])}"
    if event in {"archived", "restored"}:
        return f"{tells['as_of']} {event}: {len(tells['tables'])} tables"
    return f"{tells['as_of']} published as month {tells['month']} by load {tells['load']}"


def entries(connection: Connection) -> list[Entry]:
    """The ledger's entries for standing and replaced history, each with how it differs from the chain, if it does."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(statement(__file__, "entries")).fetchall()


def links(connection: Connection) -> list[Link]:
    """All links, the oldest first."""
    with connection.cursor(row_factory=class_row(Link)) as cursor:
        return cursor.execute(statement(__file__, "links")).fetchall()


def line_of(connection: Connection, load_id: int) -> str | None:
    """The manifest's line for the publication of a load; None if the chain does not have it."""
    published = {"event": "published", "load": load_id}.items()
    told = (link for link in links(connection) if isinstance(link.tells, dict))  # somebody may have changed one
    return next((link.line for link in told if published <= link.tells.items()), None)
