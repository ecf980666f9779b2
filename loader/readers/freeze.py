"""As-of schemas: a past date under production's table names, so that code for production runs on it unchanged."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import psycopg
from psycopg import sql

from loader.contract.tables import Table
from loader.database import Connection, identifiers, statement, value
from loader.errors import SurroundingsFailed, in_the_way
from loader.readers.published import find, undisturbed


def schema_of(as_of: dt.date) -> str:
    """The name of a date's schema, like as_of_2024_01_31."""
    return f"as_of_{as_of:%Y_%m_%d}"


def freeze(connection: Connection, tables: Sequence[Table], as_of: dt.date) -> str:
    """Create or update the schema of a published date: one view per table, no copy. Returns the schema's name.

    Whoever may read a production table may read its view; nobody may write through it.

    Raises:
        WrongUsage: the date is not published, or archived.
        SurroundingsFailed: the role may not create schemas in this database, or something is in the way of a view.
    """
    schema, is_there = schema_of(as_of), False
    try:
        with undisturbed(connection, tables, read_only=False):
            find(connection, str(as_of))
            connection.execute("set local search_path = ''")
            is_there = value(connection, "select to_regnamespace(%s) is not null", [schema])
            if not is_there:
                connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
            for table in tables:
                _show(connection, schema, table, as_of)
    except psycopg.errors.InsufficientPrivilege as error:
        remedy = f'grant create on database "{connection.info.dbname}" to "{connection.info.user}"'
        if is_there:
            remedy = "`streamflow init --roles`"
        raise SurroundingsFailed(
            f"{schema} cannot be made: {error.diag.message_primary}. Have the database's owner run: {remedy}"
        ) from None
    except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.WrongObjectType) as error:
        raise in_the_way(f"{schema} stays as it was", error) from None
    return schema


def _show(connection: Connection, schema: str, table: Table, as_of: dt.date) -> None:
    view = sql.Identifier(schema, table.name)
    create = statement(__file__, "view").format(
        view=view,
        columns=identifiers([*table.column_names, "observed_as_of"]),
        history=sql.Identifier("public", f"{table.name}_snapshots"),
        as_of=sql.Literal(as_of),
    )
    try:
        with connection.transaction():
            connection.execute(create)
    except psycopg.errors.InvalidTableDefinition:  # the view lacks a column declared since then
        connection.execute(sql.SQL("drop view {}").format(view))
        connection.execute(create)
    for (change,) in connection.execute(
        statement(__file__, "rights"), {"schema": schema, "table": table.name}
    ).fetchall():
        connection.execute(change.encode())
