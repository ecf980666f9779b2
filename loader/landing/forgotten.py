"""Forgotten customers: only tombstones of them are kept, and their rows are deleted from whatever lands."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from psycopg import sql

from loader.contract.customers import customers_first
from loader.contract.tables import Table
from loader.database import Connection, statement, value
from loader.errors import WrongUsage

THE_SAME = "update ops.forgotten set customers_in = '{}'"
OF_NOBODY = (
    "update ops.forgotten set named_in ="
    " array(select name from unnest(named_in) as name where not starts_with(name, '{}.'))"
)


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


def remember_tables(connection: Connection, tables: Sequence[Table]) -> None:
    """Enter which columns name forgotten customers; WrongUsage as in require_same_customers."""
    require_same_customers(connection, tables)
    [owner, *_] = customers_first(tables)
    named_in = [f"{table.name}.{name}" for table in tables for name in table.customer]
    connection.execute(statement(__file__, "remember_tables"), {"owner": owner.name, "named_in": named_in})


def require_same_customers(connection: Connection, tables: Sequence[Table]) -> None:
    """Require that the declared columns that name customers are those by which customers were forgotten.

    Raises:
        WrongUsage: they are not, so that a forgotten customer could come back, or rows of others could be deleted.
    """
    if value(connection, "select to_regclass('ops.forgotten') is null"):
        return
    [owner, *_] = customers_first(tables)
    for customers_in, named_in in connection.execute(statement(__file__, "tables_then")).fetchall():
        if customers_in != owner.name:
            raise WrongUsage(
                f"customers of {customers_in} were forgotten, but the declaration has the customers in {owner.name}."
                f" Set `customers: true` for {customers_in}; or, if {owner.name} has the same customers, run in psql"
                f" `{THE_SAME.format(owner.name)}`. Nothing was changed."
            )
        for table in tables:
            names = {f"{table.name}.{name}" for column in table.customer for name in table.column(column).names}
            then = [name for name in named_in if name.startswith(f"{table.name}.")]
            if then and names.isdisjoint(then):
                raise WrongUsage(
                    f"{' and '.join(then)} named customers who were forgotten, but the declaration no longer says"
                    " so. Declare `references` as they were; or, if it is no customer's column, run in psql"
                    f" `{OF_NOBODY.format(table.name)}`. Nothing was changed."
                )
