"""What the database knows of roles, and of the objects that streamflow's tables are made of: who may do what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql
from psycopg.rows import class_row

from loader.database.connect import Connection

SCHEMAS = ["ops", "staging", "history", "restated"]
"""The schemas that are streamflow's alone; `public` may hold tables of others."""


@dataclass(frozen=True)
class Admin:
    """The role that is connected, the database and its owner."""

    name: str
    database: str
    owner: str
    owns: bool
    superuser: bool
    createrole: bool

    @property
    def identifier(self) -> sql.Identifier:
        """Its name, quoted."""
        return sql.Identifier(self.name)


@dataclass(frozen=True)
class Known:
    """A role that exists: what it may do, and whether we may change it (`administered`) and act as it (`inherited`)."""

    login: bool
    superuser: bool
    createdb: bool
    createrole: bool
    replication: bool
    bypassrls: bool
    owns_database: bool
    creates_schemas: bool
    creates_tables: bool
    groups: list[str]
    administered: bool
    inherited: bool


@dataclass(frozen=True)
class Object:
    """A schema, relation or routine that the loader works with, and whether we have its owner's rights."""

    kind: Literal["schema", "table", "routine"]
    schema: str
    name: str
    arguments: list[list[str]]
    owner: str
    ours: bool


def administrator(connection: Connection) -> Admin:
    """Who is connected."""
    with connection.cursor(row_factory=class_row(Admin)) as cursor:
        return cursor.execute(
            "select r.rolname as name, d.datname as database, pg_get_userbyid(d.datdba) as owner,"
            " pg_has_role(d.datdba, 'USAGE') as owns, r.rolsuper as superuser, r.rolcreaterole as createrole"
            " from pg_roles as r cross join pg_database as d"
            " where r.rolname = current_user and d.datname = current_database()"
        ).fetchall()[0]


def known_role(connection: Connection, name: str) -> Known | None:
    """The role of that name; None where there is none."""
    with connection.cursor(row_factory=class_row(Known)) as cursor:
        return cursor.execute(
            "select r.rolcanlogin as login, r.rolsuper as superuser, r.rolcreatedb as createdb,"
            " r.rolcreaterole as createrole, r.rolreplication as replication, r.rolbypassrls as bypassrls,"
            " pg_has_role(r.oid, d.datdba, 'MEMBER') as owns_database,"
            " has_database_privilege(r.oid, d.oid, 'CREATE') as creates_schemas,"
            " has_schema_privilege(r.oid, 'public', 'CREATE') as creates_tables,"
            " array(select distinct pg_get_userbyid(m.roleid)::text from pg_auth_members as m where m.member = r.oid"
            " order by 1) as groups,"
            " pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') as administered,"
            " pg_has_role(r.oid, 'USAGE') and pg_has_role(r.oid, 'SET') as inherited"
            " from pg_roles as r inner join pg_database as d on d.datname = current_database() where r.rolname = %s",
            [name],
        ).fetchone()


def objects(connection: Connection, relations: Sequence[str]) -> list[Object]:
    """The schemas, all that is in streamflow's own ones, and its tables in `public`; nothing else there is touched.

    What is streamflow's in `public` is what is declared. The ledger is not asked: the loader could write there, and be
    handed somebody else's table.
    """
    with connection.cursor(row_factory=class_row(Object)) as cursor:
        return cursor.execute(
            "select 'schema' as kind, nspname::text as schema, '' as name, '{}'::text[] as arguments,"
            " pg_get_userbyid(nspowner)::text as owner, pg_has_role(nspowner, 'USAGE') as ours"
            " from pg_namespace where nspname = any(%(schemas)s) or nspname = 'public'"
            " union all"
            " select 'table', n.nspname, c.relname, '{}', pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE')"
            " from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace"
            " where (n.nspname = any(%(schemas)s) or (n.nspname = 'public' and c.relname = any(%(relations)s)))"
            " and (c.relkind in ('r', 'p', 'v', 'm', 'f') or (c.relkind = 'S' and not exists ("  # else with its table
            "select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid"
            " and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i'))))"
            " union all"
            " select 'routine', n.nspname, p.proname, coalesce((select array_agg(array[k.nspname, t.typname]::text[]"
            " order by a.position) from unnest(p.proargtypes) with ordinality as a (type, position)"
            " inner join pg_type as t on t.oid = a.type inner join pg_namespace as k on k.oid = t.typnamespace), '{}'),"
            " pg_get_userbyid(p.proowner), pg_has_role(p.proowner, 'USAGE')"
            " from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace"
            " where n.nspname = any(%(schemas)s)",
            {"schemas": SCHEMAS, "relations": list(relations)},
        ).fetchall()
