"""Whether a delivery is what history was built from, by the hashes of its files, and where not, in how many rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from loader.contract.tables import Table
from loader.database.connect import Connection
from loader.delivery.deliveries import Delivery
from loader.pipeline.ledger import TableHistory, one_row


def differing_tables(
    tables: Sequence[Table], hashes: Mapping[str, str], known: Mapping[str, TableHistory]
) -> list[Table]:
    """The tables whose history was built from another file than the one at hand."""
    return [table for table in tables if table.name in known and known[table.name].sha256 != hashes[table.name]]


def is_published(tables: Sequence[Table], known: Mapping[str, TableHistory]) -> bool:
    """Whether every declared table has its history on that date, and production has taken it in."""
    return all(table.name in known and known[table.name].merged_at for table in tables)


def rows_that_differ(connection: Connection, table: Table, delivery: Delivery) -> int:
    """In how many customers the rows in staging and those that history has from this as_of's delivery differ."""
    history = f"{table.name}_snapshots"
    known = connection.execute(
        "select column_name from information_schema.columns where table_schema = 'public' and table_name = %s",
        [history],
    )
    names = {name for (name,) in known.fetchall()}
    statement = sql.SQL(
        "with delivered as (select {columns} from {staging}),"
        " published as (select {published} from {history} where as_of = {as_of} and observed_as_of = {as_of})"
        " select count(*) filter (where delivered.* is distinct from published.*)"
        " + count(delivered.{key}) - count(distinct delivered.{key})"
        " from delivered full join published on delivered.{key} = published.{key}"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier(name) for name in table.column_names),
        published=sql.SQL(", ").join(
            sql.Identifier(name)
            if name in names
            else sql.SQL("null::{} as {}").format(sql.SQL(table.column(name).data_type), sql.Identifier(name))
            for name in table.column_names
        ),
        staging=sql.Identifier("staging", table.name),
        history=sql.Identifier("public", history),
        as_of=sql.Literal(delivery.as_of),
        key=sql.Identifier(table.primary_key),
    )
    return int(one_row(connection, statement)[0])
