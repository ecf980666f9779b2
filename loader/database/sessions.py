"""Checks of a new session: its database is UTF-8, and no pooler shares it with others. Its settings are those that
profiles/profiles.yml has for dbt's sessions too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cache
from typing import Any

import psycopg
import yaml

from loader.errors import SurroundingsFailed
from loader.project import project

Session = psycopg.Connection[Any]


@cache
def session_settings() -> bytes:
    """SQL that overrides the settings of server, database and role. It leaves a transaction open."""
    profile = yaml.safe_load((project().profiles / "profiles.yml").read_text(encoding="utf-8"))
    return f"begin; set role {profile['streamflow']['outputs']['server']['role']}".encode()


def require_utf8(connection: Session) -> None:
    """Require a database that can hold every character.

    Raises:
        SurroundingsFailed: its encoding is not UTF-8.
    """
    encoding, name = connection.info.parameter_status("server_encoding"), connection.info.dbname
    if encoding != "UTF8":
        raise SurroundingsFailed(
            f"the database {name} holds {encoding}, and files are UTF-8: make another one for streamflow,"
            f" `create database streamflow_utf8 encoding 'UTF8' template template0`, and name it in POSTGRES_DB."
        )


def require_session_of_its_own(connection: Session, another: Callable[[], Session]) -> None:
    """Require that each connection has a server process to itself, as locks and settings need.

    Behind a pooler the server process has another id than the one announced at connect. Session pooling gives the
    process to no other connection; transaction pooling does, or gives this connection another process the next time.

    Raises:
        SurroundingsFailed: a pooler assigns server processes for one transaction or statement only.
    """
    first = _backend(connection)
    if first == connection.info.backend_pid:
        return
    with closing(another()) as other:
        try:
            other.execute("begin")
            shared = first == _backend(other) or first != _backend(connection)
        except psycopg.errors.ProtocolViolation:  # statement pooling, which forbids transactions
            shared = True
    if shared:
        raise SurroundingsFailed(
            "a connection pooler gives each transaction another session, so that no lock and no setting would last:"
            " connect to PostgreSQL itself, or to a pool with pool_mode = session."
        )


def _backend(connection: Session) -> int:
    """The id of the server process that runs this statement."""
    [(number,)] = connection.execute("select pg_backend_pid()").fetchall()
    return int(number)
