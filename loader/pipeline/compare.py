"""Whether a delivery is what history was built from, by the hashes of its files, and where not, in how many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from loader.contract.tables import Table
from loader.database import Connection, statement
from loader.delivery import Delivery
from loader.pipeline.ledger import TableHistory, one_row


def differing_tables(
    tables: Sequence[Table], hashes: Mapping[str, str], known: Mapping[str, TableHistory]
) -> list[Table]:
    """The tables whose history was built from another file than the one at hand."""
    return [table for table in tables if table.name in known and known[table.name].sha256 != hashes[table.name]]


def rows_that_differ(connection: Connection, table: Table, delivery: Delivery) -> tuple[int, int, int]:
    """In how many rows staging and what history has from this as_of's delivery differ; one that is there twice does.

    Returns:
        Their number, that of the rows that are in both, and that of those that history has.
    """
    history = f"{table.name}_snapshots"
    known = {name for (name,) in connection.execute(statement(__file__, "columns"), [history]).fetchall()}
    published = [
        sql.Identifier(name)
        if name in known
        else sql.SQL("null::{} as {}").format(sql.SQL(table.column(name).data_type), sql.Identifier(name))
        for name in table.column_names
    ]
    query = statement(__file__, "rows_that_differ").format(
        columns=sql.SQL(", ").join(map(sql.Identifier, table.column_names)),
        published=sql.SQL(", ").join(published),
        staging=sql.Identifier("staging", table.name),
        history=sql.Identifier("public", history),
        as_of=sql.Literal(delivery.as_of),
        key=sql.SQL(", ").join(map(sql.Identifier, table.key)),
        first=sql.Identifier(table.key[0]),
    )
    differing, known, published = one_row(connection, query)
    return int(differing), int(known), int(published)
