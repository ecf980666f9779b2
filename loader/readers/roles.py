"""Two roles: a loader, which can do streamflow's whole job and no more, and a reader of production and history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from pydantic import SecretStr

from loader.contract.tables import Table
from loader.database import Connection, statement, takes_role
from loader.errors import SurroundingsFailed, WrongUsage
from loader.readers import marts

DEFAULTS = ("streamflow_loader", "streamflow_reader")
LONGEST_NAME = 63
PATIENCE = "10s"
"""How long to wait for a table that somebody reads."""
NOT_GRANTED = {"01006", "01007"}
"""SQLSTATEs of the warnings with which PostgreSQL grants and revokes nothing."""


@dataclass(frozen=True)
class Role:
    """A role that is to be there. Without a password an existing one keeps its own, and a new one gets none."""

    name: str
    purpose: Literal["loader", "reader"]
    password: SecretStr | None


@dataclass(frozen=True)
class Made:
    """What became of a role; `password` is `kept` where it existed and none was given."""

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
    loader, reader = (default if name is None else name for name, default in zip(names, DEFAULTS, strict=True))
    for name in (loader, reader):
        reserved = name.startswith("pg_") or name in {"", "public", "none"}
        if reserved or len(name.encode()) > LONGEST_NAME or name.strip() != name:
            raise WrongUsage(
                f"{name!r} is no name for a role: 1 to {LONGEST_NAME} bytes, no blanks around it, and none that"
                " PostgreSQL keeps for itself (pg_..., public, none)."
            )
    if loader == reader:
        raise WrongUsage(f"loader and reader must be two roles, and both are named {loader}.")
    return Role(loader, "loader", passwords[0]), Role(reader, "reader", passwords[1])


def refuse_powerful(connection: Connection, roles: tuple[Role, Role]) -> None:
    """Make sure, before anything is changed, that no role is meant for something else: its rights are not taken away.

    Raises:
        WrongUsage: a role that exists may do more than a loader or a reader should, or the server has no such names.
    """
    for role in roles:
        if not takes_role(connection, role.name):
            raise WrongUsage(f"{role.name!r} is no name for a role on Citus: only a-z, 0-9 and _, and no keyword.")
        query = statement(__file__, "powers").format(role=sql.Literal(role.name))
        for (powers,) in connection.execute(query).fetchall():
            if powers:
                more = ", ".join(powers)
                raise WrongUsage(
                    f"{role.name} has more rights than a {role.purpose} should ({more}): name another role."
                )


def make_roles(connection: Connection, roles: tuple[Role, Role], tables: Sequence[Table]) -> RolesMade:
    """Create or update both roles and hand streamflow's tables over to the loader: all of it or nothing.

    Raises:
        SurroundingsFailed: the role that is connected lacks a right, or a table is in use.
    """
    names: dict[str, sql.Composable] = {"relations": sql.Literal(relations(tables))}
    names["database"] = sql.Identifier(connection.info.dbname)
    for role in roles:
        names |= {role.purpose: sql.Identifier(role.name), f"{role.purpose}_name": sql.Literal(role.name)}

    def run(name: str) -> psycopg.Cursor[TupleRow]:
        return connection.execute(statement(__file__, name).format(**names))

    with _all_or_nothing(connection):
        made = [_make(connection, role) for role in roles]
        for (grant,) in run("join_loader").fetchall():
            connection.execute(grant.encode())
        run("rights")
        foreign = run("hand_over").fetchall()
        for (each,) in [*foreign, *run("let_read").fetchall()]:
            connection.execute(each.encode())
        return RolesMade(made, len(foreign), [note for (note,) in run("notes").fetchall()])


def relations(tables: Sequence[Table]) -> list[str]:
    """The names of streamflow's tables and views in schema public: production, history and marts."""
    return [*(name for table in tables for name in (table.name, f"{table.name}_snapshots")), *marts.names()]


@contextmanager
def _all_or_nothing(connection: Connection) -> Iterator[None]:
    """A transaction that calls nothing that somebody put into schema public, and fails where a right is lacking."""
    warned: list[str] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        if notice.sqlstate in NOT_GRANTED:
            warned.append(str(notice.message_primary))

    connection.add_notice_handler(hear)
    try:
        with connection.transaction():
            connection.execute("set local search_path = ''")
            connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
            yield
            if warned:
                raise psycopg.errors.InsufficientPrivilege(warned[0])
    except psycopg.errors.InsufficientPrivilege as error:
        raise SurroundingsFailed(
            f"the database refuses it, and the roles are as they were: {error.diag.message_primary or error}. Have a"
            " superuser run `streamflow init --roles`, or the database's owner, with CREATEROLE and as the owner of all"
            " tables that are there."
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise SurroundingsFailed(
            "a table is in use and cannot be handed over; the roles are as they were. Try again when nobody reads it."
        ) from None
    finally:
        connection.remove_notice_handler(hear)


def _make(connection: Connection, role: Role) -> Made:
    name = sql.Identifier(role.name)
    query = "select rolcanlogin from pg_catalog.pg_roles where rolname = %s"
    known = connection.execute(query, [role.name]).fetchone()
    if known != (True,):
        connection.execute(sql.SQL("{} role {} login").format(sql.SQL("alter" if known else "create"), name))
    if role.password is not None:  # as the server keeps it: the password itself gets into no statement and no log
        verifier = connection.pgconn.encrypt_password(
            role.password.get_secret_value().encode(), role.name.encode(), b"scram-sha-256"
        )
        connection.execute(sql.SQL("alter role {} password {}").format(name, sql.Literal(verifier.decode())))
    without: Literal["none", "kept"] = "kept" if known else "none"
    return Made(role.name, role.purpose, known is None, "set" if role.password else without)
