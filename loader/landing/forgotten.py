"""Forgotten customers: only tombstones of them are kept, and their rows are deleted from whatever lands."""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from loader.contract.tables import Table
from loader.database import Connection, statement


def take_out(connection: Connection, staging: sql.Identifier, table: Table) -> int:
    """Delete the rows of forgotten customers from a table that has just landed; return how many there were."""
    if len(table.customer) != 1:  # rows of no customer, or a customer key that `forget` refuses
        return 0
    rows = 0
    for key, tombstones in connection.execute(statement(__file__, "tombstones")).fetchall():
        query = statement(__file__, "take_out").format(
            staging=staging,
            customer=sql.Identifier(*table.customer),
            name=name_of(*table.customer, table.column(*table.customer).data_type),
            key=sql.Literal(key),
            tombstones=sql.Literal(tombstones),
        )
        rows += connection.execute(query).rowcount
    return rows


def name_of(column: str, data_type: str) -> sql.Composed:
    """SQL for a customer as text, the same for equal customers: 7 and 7.0 are one."""
    return sql.SQL("trim_scale({})::text" if data_type == "numeric" else "{}::text").format(sql.Identifier(column))


def forgotten(connection: Connection, customers: Collection[str]) -> set[str]:
    """Those of `customers` who were forgotten before."""
    found = connection.execute(statement(__file__, "known"), {"customers": list(customers)})
    return {customer for (customer,) in found.fetchall()}


def enter(connection: Connection, customers: Collection[str], link: int) -> None:
    """Enter tombstones of these customers, so that they never land again. `link` is the chain link that records it."""
    connection.execute(statement(__file__, "enter"), {"customers": list(customers), "link": link})
