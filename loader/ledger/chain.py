"""The ledger's chain: what readers were given, in order, each link with a hash over itself and the one before."""

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
    """History of one table and date, or what a restatement kept of it, by the ledger and by the chain."""

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

    @property
    def relation(self) -> sql.Identifier:
        """The table that has the rows."""
        return sql.Identifier(self.schema_name or "history", self.partition_name)


@dataclass(frozen=True)
class Link:
    """One event, the hash that it ends with, and what is wrong with it, where something is."""

    link: int
    tells: dict[str, Any]
    sha256: str
    wrong: str | None

    @property
    def line(self) -> str:
        """The link as a manifest has it: its number, its hash, and what it tells in short."""
        tells = self.tells
        if tells["event"] == "forgotten":
            what = f"{tells['at'][:10]} customers forgotten: {tells['customers']}"
        elif tells["event"] == "migrated":
            what = f"{tells['at'][:10]} migrated: {'; '.join(tells['columns'])}"
        elif tells["event"] in {"archived", "restored"}:
            what = f"{tells['as_of']} {tells['event']}: {len(tells['tables'])} tables"
        else:
            what = f"{tells['as_of']} published as month {tells['month']} by load {tells['load']}"
        return f"{self.link} {self.sha256} {what}"


def entries(connection: Connection) -> list[Entry]:
    """What the ledger says of history and of what restatements kept, and where it is not what the chain told."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(statement(__file__, "entries")).fetchall()


def links(connection: Connection) -> list[Link]:
    """All links, the oldest first."""
    with connection.cursor(row_factory=class_row(Link)) as cursor:
        return cursor.execute(statement(__file__, "links")).fetchall()


def line_of(connection: Connection, load_id: int) -> str | None:
    """The manifest's line on the publication by that load."""
    told = (link for link in links(connection) if link.tells["event"] == "published")
    return next((link.line for link in told if link.tells["load"] == load_id), None)
