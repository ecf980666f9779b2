"""Two roles: a loader, which can do streamflow's whole job and no more, and a reader of production and history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql
from pydantic import SecretStr

from loader.contract.tables import Table
from loader.database.connect import Connection
from loader.database.engines import takes_role
from loader.errors import SurroundingsFailed, WrongUsage
from loader.readers import marts
from loader.readers.catalog import SCHEMAS, Admin, Known, Object, administrator, known_role, objects
from loader.settings import DBT_PROJECT

DEFAULTS = ("streamflow_loader", "streamflow_reader")
LONGEST_NAME = 63
PATIENCE = "10s"
"""How long to wait for a table that somebody reads."""

RIGHTS = (
    "revoke create on database {database} from {loader}, {reader}",
    "grant connect, temporary on database {database} to {loader}",
    "grant connect on database {database} to {reader}",
    "grant usage, create on schema {schemas}, public to {loader}",
    "revoke all on schema {schemas} from {reader}",
    "revoke create on schema public from {reader}",
    "grant usage on schema public to {reader}",
    "alter default privileges for role {loader} in schema public grant select on tables to {reader}",
)
"""What both roles may do, apart from the loader owning its objects. Temporary tables are what dbt's unit tests need."""


@dataclass(frozen=True)
class Role:
    """A role that is to be there. Without a password an existing one keeps its own, and a new one gets none."""

    name: str
    purpose: Literal["loader", "reader"]
    password: SecretStr | None

    @property
    def identifier(self) -> sql.Identifier:
        """Its name, quoted."""
        return sql.Identifier(self.name)


@dataclass(frozen=True)
class Made:
    """What became of a role; `password` is `kept` where it had one, or where only a superuser could tell."""

    role: str
    purpose: str
    created: bool
    password: Literal["set", "none", "kept"]


@dataclass(frozen=True)
class RolesMade:
    """What was done: the roles, how many objects changed their owner, and what somebody should know of."""

    roles: list[Made]
    handed_over: int
    notes: list[str]


def wanted(names: Sequence[str | None], passwords: Sequence[SecretStr | None]) -> tuple[Role, Role]:
    """Loader and reader by the names given, or by the default ones.

    Raises:
        WrongUsage: a name is not one that a role can have.
    """
    for name in (name for name in names if name is not None):
        if not name or len(name.encode()) > LONGEST_NAME or name.strip() != name:
            raise WrongUsage(f"{name!r} is no name for a role: 1 to {LONGEST_NAME} bytes, no blanks around it.")
        if name.startswith("pg_") or name in {"public", "none"}:
            raise WrongUsage(f"{name} is a name that PostgreSQL keeps for itself: name another role.")
    loader, reader = (name or default for name, default in zip(names, DEFAULTS, strict=True))
    if loader == reader:
        raise WrongUsage(f"loader and reader must be two roles, and both are named {loader}.")
    return Role(loader, "loader", passwords[0]), Role(reader, "reader", passwords[1])


def require_rights(connection: Connection, roles: tuple[Role, Role], tables: Sequence[Table]) -> None:
    """Make sure that the roles can be made and given what they need, before anything is changed.

    Raises:
        SurroundingsFailed: the role that is connected lacks a right; the message says what a superuser has to run.
        WrongUsage: a role that exists may do more than a loader or a reader should, or the server has no such names.
    """
    with _qualified_names_only(connection):
        admin = administrator(connection)
        if not admin.superuser and not admin.owns:
            raise SurroundingsFailed(
                f"{admin.name} may not make roles for the database {admin.database}: `init --roles` needs its owner,"
                f" {admin.owner}, or a superuser."
            )
        known = {role: known_role(connection, role.name) for role in roles}
        for role, found in known.items():
            if not takes_role(connection, role.name):
                raise WrongUsage(f"{role.name!r} is no name for a role on Citus: only a-z, 0-9 and _, and no keyword.")
            if found is not None:
                _require_no_more(admin, role, found)
        if not admin.superuser:
            remedies = [remedy for role, found in known.items() for remedy in _remedies(admin, role, found)]
            _require_nothing_more(admin, list(dict.fromkeys(remedy.as_string(connection) for remedy in remedies)))
            _require_ownership(admin, roles[0], objects(connection, relations(tables)))


def make_roles(connection: Connection, roles: tuple[Role, Role], tables: Sequence[Table]) -> RolesMade:
    """Create or update both roles and hand streamflow's tables over to the loader: all of it or nothing.

    Raises:
        SurroundingsFailed: the database refuses it, or a table is in use.
    """
    loader, reader = roles
    try:
        with _qualified_names_only(connection):
            connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
            made = [_make(connection, role) for role in roles]
            _join(connection, loader)
            _grant_rights(connection, loader, reader)
            there = [item for item in objects(connection, relations(tables)) if item.kind != "schema"]
            foreign = [item for item in there if item.owner != loader.name]
            for item in sorted(foreign, key=lambda item: item.kind != "routine"):  # Citus takes them in this order only
                _hand_over(connection, item, loader)
            _let_read(connection, [item for item in there if item.schema == "public"], reader)
            return RolesMade(made, len(foreign), [*_notes(connection, loader), *_notes(connection, reader)])
    except psycopg.errors.InsufficientPrivilege as error:
        raise SurroundingsFailed(
            f"the database refuses it, and the roles are as they were: {error.diag.message_primary}. Try it as a"
            " superuser."
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise SurroundingsFailed(
            "a table is in use and cannot be handed over; the roles are as they were. Try again when nobody reads it."
        ) from None


def relations(tables: Iterable[Table], project: Path = DBT_PROJECT) -> list[str]:
    """The names of streamflow's tables and views in schema public: production, history and marts."""
    declared = [name for table in tables for name in (table.name, f"{table.name}_snapshots")]
    return [*declared, *marts.names(project)]


@contextmanager
def _qualified_names_only(connection: Connection) -> Iterator[None]:
    """A transaction in which nothing is called that somebody put into schema public."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        yield


def _require_no_more(admin: Admin, role: Role, known: Known) -> None:
    """Refuse a role that is meant for something else, instead of taking its rights away."""
    powers = ("superuser", "createdb", "createrole", "replication", "bypassrls")
    more = ", ".join(power for power in powers if getattr(known, power))
    if role.name == admin.name:
        raise WrongUsage(f"{role.name} is the role that runs this: name another one for the {role.purpose}.")
    if more:
        raise WrongUsage(f"{role.name} has more rights than a {role.purpose} should ({more}): name another role.")
    if known.owns_database:
        raise WrongUsage(f"{role.name} has the rights of the database's owner, {admin.owner}: name another role.")


def _require_nothing_more(admin: Admin, statements: Sequence[str]) -> None:
    """End where a superuser has to run something first."""
    if statements:
        raise SurroundingsFailed(
            f"{admin.name} lacks rights that `init --roles` needs, and nothing was changed. Have a superuser run this,"
            " and try again:" + "".join(f"\n  {statement};" for statement in statements)
        )


def _require_ownership(admin: Admin, loader: Role, items: Iterable[Object]) -> None:
    """End where something belongs to a role whose rights we do not have."""
    for item in items:
        if not item.ours and item.owner != loader.name:
            what = " ".join([item.kind, ".".join(filter(None, [item.schema, item.name]))])
            raise SurroundingsFailed(
                f"{what} belongs to {item.owner}, so {admin.name} can grant no rights on it. Have a superuser run"
                " `init --roles`."
            )


def _remedies(admin: Admin, role: Role, known: Known | None) -> Iterator[sql.Composed]:
    """What a superuser has to run so that an administrator who is none can create or update a role."""
    if known is None:
        if not admin.createrole:
            yield sql.SQL("create role {} login").format(role.identifier)
            yield sql.SQL("grant {} to {} with admin option").format(role.identifier, admin.identifier)
            if role.password is not None:
                yield sql.SQL("alter role {} createrole").format(admin.identifier)
        return
    if (role.password is not None or not known.login) and not (admin.createrole and known.administered):
        yield sql.SQL("grant {} to {} with admin option").format(role.identifier, admin.identifier)
        yield sql.SQL("alter role {} createrole").format(admin.identifier)
    elif role.purpose == "loader" and not known.inherited and not known.administered:
        yield sql.SQL("grant {} to {}").format(role.identifier, admin.identifier)


def _make(connection: Connection, role: Role) -> Made:
    known = known_role(connection, role.name)
    if known is None:
        connection.execute(sql.SQL("create role {} login").format(role.identifier))
    elif not known.login:
        connection.execute(sql.SQL("alter role {} login").format(role.identifier))
    if role.password is not None:
        verifier = _scram(connection, role.name, role.password)
        connection.execute(sql.SQL("alter role {} password {}").format(role.identifier, sql.Literal(verifier)))
        return Made(role.name, role.purpose, known is None, "set")
    none = known is None or _has_no_password(connection, role)
    return Made(role.name, role.purpose, known is None, "none" if none else "kept")


def _scram(connection: Connection, name: str, password: SecretStr) -> str:
    """What the server keeps of a password, computed here: the password itself never gets into a statement or a log."""
    cleartext = password.get_secret_value().encode()
    return connection.pgconn.encrypt_password(cleartext, name.encode(), b"scram-sha-256").decode()


def _has_no_password(connection: Connection, role: Role) -> bool:
    """Whether a role certainly has no password; only a superuser may look."""
    query = "select rolpassword is null from pg_authid where rolname = %s"
    return administrator(connection).superuser and connection.execute(query, [role.name]).fetchone() == (True,)


def _join(connection: Connection, loader: Role) -> None:
    """Make an owner who is no superuser a member of the loader: only then can it hand tables over, and read them."""
    admin, known = administrator(connection), known_role(connection, loader.name)
    if not admin.superuser and known is not None and not known.inherited:
        statement = sql.SQL("grant {} to {} with inherit true, set true")
        connection.execute(statement.format(loader.identifier, admin.identifier))


def _grant_rights(connection: Connection, loader: Role, reader: Role) -> None:
    there = {name for (name,) in connection.execute("select nspname from pg_namespace").fetchall()}
    for schema in SCHEMAS:
        if schema not in there:
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
    for statement in RIGHTS:
        connection.execute(
            sql.SQL(statement).format(
                database=sql.Identifier(administrator(connection).database),
                schemas=sql.SQL(", ").join(map(sql.Identifier, SCHEMAS)),
                loader=loader.identifier,
                reader=reader.identifier,
            )
        )


def _hand_over(connection: Connection, item: Object, loader: Role) -> None:
    """Make the loader the owner."""
    name = sql.Identifier(item.schema, item.name)
    if item.kind == "routine":
        arguments = sql.SQL(", ").join(sql.Identifier(*argument) for argument in item.arguments)
        statement = sql.SQL("alter routine {} ({}) owner to {}").format(name, arguments, loader.identifier)
    else:
        statement = sql.SQL("alter table {} owner to {}").format(name, loader.identifier)
    connection.execute(statement)


def _let_read(connection: Connection, items: Sequence[Object], reader: Role) -> None:
    for item in items:
        name = sql.Identifier(item.schema, item.name)
        connection.execute(sql.SQL("revoke all on table {} from {}").format(name, reader.identifier))
        connection.execute(sql.SQL("grant select on table {} to {}").format(name, reader.identifier))


def _notes(connection: Connection, role: Role) -> Iterator[str]:
    """Rights that a role has from elsewhere: from PUBLIC, or as a member of other roles."""
    known = known_role(connection, role.name)
    if known is None:
        return
    if known.creates_schemas:
        yield f"{role.name} may create schemas in this database, which was granted to PUBLIC or to a role it is in"
    if known.creates_tables and role.purpose == "reader":
        yield f"{role.name} may create tables in public, as all may: revoke create on schema public from public"
    for group in known.groups:
        yield f"{role.name} is a member of {group} and has its rights too"
