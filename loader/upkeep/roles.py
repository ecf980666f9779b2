"""Two roles: a loader, which can do streamflow's whole job and no more, and a reader of production and history."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from pydantic import SecretStr

from loader.contract.names import SQL_WORDS
from loader.database import Connection, statement
from loader.errors import WrongUsage
from loader.upkeep import history

NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
NOTHING = "the roles are as they were"
NOT_GRANTED = {"01006", "01007"}
"""SQLSTATEs of the warnings that a grant or a revoke had no effect."""


@dataclass(frozen=True)
class Made:
    """What became of a role; `password` is `kept` if the role existed and no password was given."""

    role: str
    purpose: str
    created: bool
    password: Literal["set", "none", "kept"]


@dataclass(frozen=True)
class RolesMade:
    """What was done: the roles, how many objects changed owner, and notes for the administrator."""

    roles: list[Made]
    handed_over: int
    notes: list[str]


def chosen(connection: Connection, loader: str | None, reader: str | None) -> dict[str, str]:
    """Purpose -> name of both roles, given or default; checked before anything is changed.

    Raises:
        WrongUsage: both names are equal, a name needs quotes (Citus does not always add them), or a name is that of a
            role with more rights, which has another purpose.
    """
    connection.execute("set search_path = ''")  # so that it calls no function that somebody put into public
    asked = {"loader": loader, "reader": reader}
    names = {purpose: f"streamflow_{purpose}" if name is None else name for purpose, name in asked.items()}
    if names["loader"] == names["reader"]:
        raise WrongUsage(f"loader and reader must be two roles, and both are named {names['loader']}.")
    for purpose, name in names.items():
        if not NAME.fullmatch(name) or name in SQL_WORDS | {"public", "none"}:
            raise WrongUsage(f"{name!r} cannot name a role: up to 63 of a-z, 0-9 and _, no keyword, and not pg_...")
        for (powers,) in connection.execute(statement(__file__, "powers"), {"role": name}).fetchall():
            raise WrongUsage(f"{name} has more rights than a {purpose} should ({powers}): name another role.")
    return names


def others_may_create(connection: Connection) -> bool:
    """Whether a role that is neither this one nor a superuser may create functions in schema public or streamflow's."""
    return connection.execute(statement(__file__, "creators"), [[]]).fetchone() is not None


def unexpected_creators(connection: Connection, *expected: str) -> list[tuple[str, str]]:
    """Whoever else may create functions there, but for owners and `expected` roles: what is wrong, and the remedy."""
    rows = connection.execute(statement(__file__, "creators"), [list(expected)]).fetchall()
    return [(message, remedy) for message, remedy, is_expected in rows if not is_expected]


def make_roles(
    connection: Connection,
    roles: Mapping[str, str],
    passwords: Mapping[str, SecretStr | None],
    relations: Sequence[str],
) -> RolesMade:
    """Create or update both roles and hand streamflow's tables over to the loader: all of it or nothing.

    Args:
        roles: what `chosen` returns.
        relations: what the loader is to own in schema public, and the reader to read.
        passwords: without one an existing role keeps its own, and a new one gets none.

    Raises:
        SurroundingsFailed: the role that is connected lacks a right, or a table is in use.
    """
    names: dict[str, sql.Composable] = {"relations": sql.Literal(list(relations))}
    names["database"] = sql.Identifier(connection.info.dbname)
    for purpose, name in roles.items():
        names |= {purpose: sql.Identifier(name), f"{purpose}_name": sql.Literal(name)}
    warned: list[str] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        if notice.sqlstate in NOT_GRANTED:
            warned.append(str(notice.message_primary))

    def run(name: str) -> psycopg.Cursor[TupleRow]:
        return connection.execute(statement(__file__, name).format(**names))

    connection.add_notice_handler(hear)
    with history.all_or_nothing(connection, NOTHING):
        connection.execute("set local search_path = ''")
        made = [_make(connection, purpose, name, passwords[purpose]) for purpose, name in roles.items()]
        for (grant,) in run("join_loader").fetchall():
            connection.execute(grant.encode())
        run("rights")
        foreign = run("hand_over").fetchall()
        for (each,) in [*foreign, *run("let_read").fetchall()]:
            connection.execute(each.encode())
        notes = [note for (note,) in run("notes").fetchall()]
        notes += map("; ".join, unexpected_creators(connection, roles["loader"]))
        if warned:
            raise psycopg.errors.InsufficientPrivilege(warned[0])
    return RolesMade(made, len(foreign), notes)


def relations_of(manifest: Any) -> list[str]:
    """The names of the tables and views that dbt makes in schema public: all models, seeds and snapshots."""
    made = [node for node in manifest.nodes.values() if node.resource_type in {"model", "seed", "snapshot"}]
    made = [node for node in made if node.config.materialized != "ephemeral"]
    return sorted({node.alias for node in made if node.schema == "public"})


def _make(connection: Connection, purpose: str, name: str, password: SecretStr | None) -> Made:
    role = sql.Identifier(name)
    query = "select rolcanlogin from pg_catalog.pg_roles where rolname = %s"
    known = connection.execute(query, [name]).fetchone()
    if known != (True,):
        connection.execute(sql.SQL("{} role {} login").format(sql.SQL("alter" if known else "create"), role))
    if password is None:
        return Made(name, purpose, known is None, "kept" if known else "none")
    # hashed as the server stores it, so that no statement and no log has the password itself
    verifier = connection.pgconn.encrypt_password(password.get_secret_value().encode(), name.encode(), b"scram-sha-256")
    connection.execute(sql.SQL("alter role {} password {}").format(role, sql.Literal(verifier.decode())))
    return Made(name, purpose, known is None, "set")
