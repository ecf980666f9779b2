"""Customers who were forgotten: known by tombstones only, and taken out of whatever lands."""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from loader.contract.tables import Table
from loader.database import Connection, statement


def take_out(connection: Connection, staging: sql.Identifier, table: Table) -> int:
    """Take the rows of forgotten customers out of a table that has just landed; returns how many these were."""
    if len(table.customer) != 1:  # of no customer, or customers who cannot be forgotten
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
    """A customer as text, which is the same for equal ones: 7 and 7.0 are one."""
    return sql.SQL("trim_scale({})::text" if data_type == "numeric" else "{}::text").format(sql.Identifier(column))


def forgotten(connection: Connection, customers: Collection[str]) -> set[str]:
    """Those of the customers who were forgotten before."""
    found = connection.execute(statement(__file__, "known"), {"customers": list(customers)})
    return {customer for (customer,) in found.fetchall()}


def enter(connection: Connection, customers: Collection[str], link: int) -> None:
    """Have these customers never come back. `link` is the one of the chain that tells of it."""
    connection.execute(statement(__file__, "enter"), {"customers": list(customers), "link": link})
