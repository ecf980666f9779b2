"""Customers who must be forgotten: out of production, all of history, kept rows and staging, for good."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from loader.contract.tables import Table, load_contract
from loader.database import Connection, is_cluster, open_database, statement
from loader.errors import SurroundingsFailed, WrongUsage
from loader.landing import enter, forget_in_rejects, forgotten
from loader.pipeline import chain, ledger
from loader.pipeline.chain import Entry
from loader.settings import Settings

PATIENCE = "10s"
"""How long to wait for a table that somebody writes to."""
NAMED = 5
"""How many customers a message names."""


@dataclass(frozen=True)
class Forgotten:
    """How many customers, and how many more had been forgotten before; rows deleted; rejects files that changed."""

    customers: int
    before: int
    rows: int
    rejects: int
    manifest: str | None


def forget(settings: Settings, customers: Sequence[str], reason: str) -> Forgotten:
    """Forget customers, all of them or none, and keep later deliveries and old files from bringing them back.

    Raises:
        WrongUsage: nobody knows one of them.
        SurroundingsFailed: another run is under way, this role does not own history, or the ledger is not what it was.
    """
    wanted = list(dict.fromkeys(customers))
    with contextlib.closing(open_database(settings).connect()) as connection:
        if not ledger.exists(connection):
            raise WrongUsage("there is nothing to forget: no month was ever ingested into this database.")
        ledger.lock(connection)
        before = forgotten(connection, wanted)
        new = [customer for customer in wanted if customer not in before]
        if not new:
            return Forgotten(0, len(before), 0, 0, None)
        with _owners_only(connection):
            rows, touched, manifest = _forget(connection, new, reason)
        for relation in touched:  # a deleted row is in the file until then, and so few never bring autovacuum there
            connection.execute(sql.SQL("vacuum {}").format(relation))
    return Forgotten(len(new), len(before), rows, forget_in_rejects(settings.home / "rejects", new), manifest)


def _forget(connection: Connection, customers: list[str], reason: str) -> tuple[int, list[sql.Identifier], str | None]:
    entries = chain.entries(connection)
    if wrong := next((entry for entry in entries if entry.wrong), None):
        raise SurroundingsFailed(
            f"{wrong.table_name} of {wrong.as_of}: {wrong.wrong}. Nobody was forgotten; `streamflow verify` says more."
        )
    if archived := sorted({str(entry.as_of) for entry in entries if entry.event == "archived"}):
        raise SurroundingsFailed(
            f"nobody was forgotten: {', '.join(archived)} are archived, and the files there may name them."
            " `streamflow archive --restore`, forget, archive again, and delete the old files."
        )
    if is_cluster(connection):
        connection.execute("set local citus.enable_unsafe_triggers = on")
    left, rows, told, touched = set(customers), 0, list[dict[str, Any]](), list[sql.Identifier]()
    for entry in entries:
        gone = _from_history(connection, entry, customers)
        if gone["rows_total"]:
            left -= set(gone["customers"])
            rows += gone["rows_total"]
            touched.append(entry.relation)
            if entry.event:
                checksum = int(entry.checksum - gone["checksum"])
                told.append({"table": entry.table_name, "as_of": str(entry.as_of), "load": entry.load_id,
                             "rows": entry.rows - gone["rows_total"], "checksum": checksum})  # fmt: skip
    for table in reversed(load_contract()):
        for schema in ("staging", "public"):
            found = _from_table(connection, schema, table, customers)
            left -= found
            rows += len(found)
            if found and schema == "public":
                touched.append(sql.Identifier(schema, table.name))
    if left:
        some = ", ".join(sorted(left)[:NAMED])
        raise WrongUsage(
            f"nobody was forgotten: {len(left):,} of them are in no table ({some}). Is that who was meant?"
        )
    values = [len(customers), ledger.who(), reason, Jsonb(told)]
    link = int(ledger.one_row(connection, statement(__file__, "add_link"), values)[0])
    enter(connection, customers, link)
    line = next(each.line for each in chain.links(connection) if each.link == link)
    return rows, touched, line


def _from_history(connection: Connection, entry: Entry, customers: list[str]) -> dict[str, Any]:
    """Delete from one partition, or what was kept of one; its entry loses the rows and their part of the checksum."""
    relation = entry.relation.as_string(connection)
    key, data_type = ledger.one_row(connection, statement(__file__, "key"), [relation])
    names = {"relation": entry.relation, "key": sql.Identifier(key), "type": sql.SQL(data_type)}
    values = {"relation": relation, "covered": entry.covered, "key": key, "customers": customers}
    with connection.cursor(row_factory=dict_row) as cursor:
        gone = cursor.execute(statement(__file__, "rows_of").format(**names), values).fetchone() or {}
    if gone["rows_total"]:
        gone["checksum"] = ledger.one_row(connection, statement(__file__, "checksum"), values)[0]
        connection.execute(sql.SQL("alter table {} disable trigger user").format(entry.relation))
        connection.execute(statement(__file__, "delete").format(**names), values)
        connection.execute(sql.SQL("alter table {} enable trigger user").format(entry.relation))
        update = "update_history" if entry.schema_name == "history" else "update_restated"
        which = {"table": entry.table_name, "as_of": entry.as_of, "load": entry.load_id}
        connection.execute(statement(__file__, update), {**gone, **which})
    return gone


def _from_table(connection: Connection, schema: str, table: Table, customers: list[str]) -> set[str]:
    """Delete from production or staging; returns who was there."""
    relation = sql.Identifier(schema, table.name)
    if connection.execute("select to_regclass(%s)", [relation.as_string(connection)]).fetchone() == (None,):
        return set()
    key = table.column(table.primary_key)
    names = {"relation": relation, "key": sql.Identifier(key.name), "type": sql.SQL(key.data_type)}
    query = statement(__file__, "delete").format(**names)
    found = {customer for (customer,) in connection.execute(query, {"customers": customers}).fetchall()}
    if schema == "staging":
        connection.execute(statement(__file__, "update_staged"), [len(found), table.name])
    return found


@contextlib.contextmanager
def _owners_only(connection: Connection) -> Iterator[None]:
    """One transaction, and a sentence where this role may not change history or somebody writes to a table."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
            yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise SurroundingsFailed(
            f"nobody was forgotten: only the role that owns history can do that ({error.diag.message_primary})."
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise SurroundingsFailed("nobody was forgotten: a table is in use. Try again when nobody reads it.") from None
