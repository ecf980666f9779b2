"""Forgotten customers: only tombstones of them are kept, and their rows are deleted from whatever lands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from psycopg import sql
from psycopg.types.json import Jsonb

from loader.contract.tables import Table
from loader.database import Connection, statement


def take_out(connection: Connection, staging: sql.Identifier, table: Table) -> int:
    """Delete the rows of forgotten customers from a table that has just landed; return how many there were."""
    rows = 0
    for key, customers_in, named_in, tombstones in connection.execute(statement(__file__, "tombstones")).fetchall():
        if name := _names_customers(table, customers_in, named_in or {}):
            query = statement(__file__, "take_out").format(
                staging=staging,
                customer=sql.Identifier(name),
                name=name_of(name, table.column(name).data_type),
                key=sql.Literal(key),
                tombstones=sql.Literal(tombstones),
            )
            rows += connection.execute(query).rowcount
    return rows


def _names_customers(table: Table, customers_in: str | None, named_in: Mapping[str, str]) -> str | None:
    """The column by which a table names the customers of `customers_in`; None if it names none.

    Where the declaration does not say so any more, it is the column of the day on which they were forgotten.
    """
    if len(table.customer) == 1 and customers_in in {None, table.customers_in}:
        return table.customer[0]
    return next((column.name for column in table.columns if named_in.get(table.name) in column.names), None)


def name_of(column: str, data_type: str) -> sql.Composed:
    """SQL for a customer as text, the same for equal customers: 7 and 7.0 are one."""
    return sql.SQL("trim_scale({})::text" if data_type == "numeric" else "{}::text").format(sql.Identifier(column))


def forgotten(connection: Connection, customers: Collection[str], customers_in: str) -> set[str]:
    """Those of `customers` who were forgotten before, when the table `customers_in` had the customers."""
    found = connection.execute(
        statement(__file__, "known"), {"customers": list(customers), "customers_in": customers_in}
    )
    return {customer for (customer,) in found.fetchall()}


def enter(connection: Connection, customers: Collection[str], tables: Sequence[Table], link: int) -> None:
    """Enter tombstones of these customers, so that they never land again. `link` is the chain link that records it."""
    named_in = {table.name: table.customer[0] for table in tables if table.customer}
    values = {"customers": list(customers), "link": link, "customers_in": tables[0].customers_in}
    connection.execute(statement(__file__, "enter"), {**values, "named_in": Jsonb(named_in)})
