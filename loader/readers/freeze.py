"""As-of schemas: the past under production's names, so that code written for production runs on it unchanged."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import psycopg
from psycopg import sql

from loader.contract.tables import Table
from loader.database.connect import Connection
from loader.errors import SurroundingsFailed

GRANTEES = """
select distinct case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end
from pg_class as c cross join aclexplode(c.relacl) as acl
where c.oid = to_regclass(%s) and acl.privilege_type = 'SELECT' and acl.grantee <> c.relowner
"""
"""Who may read a table, besides its owner; names are quoted where they must be."""

FROZEN = "select nspname from pg_namespace where nspname ~ '^as_of_\\d{4}_\\d{2}_\\d{2}$' order by 1"


def schema_of(as_of: dt.date) -> str:
    """The name of the schema that shows production as it was known on a date."""
    return f"as_of_{as_of:%Y_%m_%d}"


def frozen(connection: Connection) -> list[str]:
    """The as-of schemas that are there."""
    return [name for (name,) in connection.execute(FROZEN).fetchall()]


def freeze(connection: Connection, tables: Sequence[Table], as_of: dt.date) -> str:
    """Make the schema of a published date, or bring it up to date: a view for each table, no copy. Returns its name.

    Whoever may read a production table may read its view; nobody may write through it.

    Raises:
        SurroundingsFailed: the role may not create schemas in this database.
    """
    schema = schema_of(as_of)
    try:
        with connection.transaction():
            connection.execute("set local search_path = ''")
            if schema not in frozen(connection):
                connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
            for table in tables:
                _show(connection, schema, table, as_of)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SurroundingsFailed(
            f"{schema} cannot be made: {error.diag.message_primary}. Have the database's owner run:"
            f' grant create on database "{connection.info.dbname}" to "{connection.info.user}"'
        ) from None
    return schema


def thaw(connection: Connection, schema: str) -> None:
    """Take an as-of schema away. What others have built on its views keeps it.

    Raises:
        SurroundingsFailed: something else depends on it.
    """
    try:
        with connection.transaction():
            views = connection.execute(
                "select relname from pg_class where relnamespace = to_regnamespace(%s) and relkind = 'v'", [schema]
            ).fetchall()
            for (view,) in views:
                connection.execute(sql.SQL("drop view {}").format(sql.Identifier(schema, view)))
            connection.execute(sql.SQL("drop schema {}").format(sql.Identifier(schema)))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise SurroundingsFailed(f"{schema} stays: {error.diag.message_detail or error.diag.message_primary}") from None


def _show(connection: Connection, schema: str, table: Table, as_of: dt.date) -> None:
    view = sql.Identifier(schema, table.name)
    create = _view(view, table, as_of)
    try:
        with connection.transaction():
            connection.execute(create)
    except psycopg.errors.InvalidTableDefinition:  # a column was declared since
        connection.execute(sql.SQL("drop view {}").format(view))
        connection.execute(create)
    for (reader,) in connection.execute(GRANTEES, [f"public.{table.name}"]).fetchall():
        role = sql.SQL(reader)
        connection.execute(sql.SQL("grant usage on schema {} to {}").format(sql.Identifier(schema), role))
        connection.execute(sql.SQL("grant select on {} to {}").format(view, role))


def _view(view: sql.Identifier, table: Table, as_of: dt.date) -> sql.Composed:
    """PostgreSQL would let a view of one table be written through, but not one that begins with WITH."""
    statement = sql.SQL(
        "create or replace view {view} as with known as (select {columns} from {history} where as_of = {as_of})"
        " select {columns} from known"
    )
    return statement.format(
        view=view,
        columns=sql.SQL(", ").join(map(sql.Identifier, [*table.column_names, "observed_as_of"])),
        history=sql.Identifier("public", f"{table.name}_snapshots"),
        as_of=sql.Literal(as_of),
    )
