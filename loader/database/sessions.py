"""What a session must be before anything is done in it: of a UTF-8 database, its own for as long as it lasts, and with
the settings that profiles/profiles.yml has for dbt's sessions too."""

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
    """Sets what no server, database or role may set otherwise. It leaves a transaction open."""
    profile = yaml.safe_load((project().profiles / "profiles.yml").read_text(encoding="utf-8"))
    return f"begin; set role {profile['streamflow']['outputs']['server']['role']}".encode()


def require_utf8(connection: Session) -> None:
    """Go on only where the database can hold every character.

    Raises:
        SurroundingsFailed: it holds those of another encoding.
    """
    encoding, name = connection.info.parameter_status("server_encoding"), connection.info.dbname
    if encoding != "UTF8":
        raise SurroundingsFailed(
            f"the database {name} holds {encoding}, and files are UTF-8: make another one for streamflow,"
            f" `create database streamflow_utf8 encoding 'UTF8' template template0`, and name it in POSTGRES_DB."
        )


def require_session_of_its_own(connection: Session, another: Callable[[], Session]) -> None:
    """Go on only where each connection has a server process to itself, as locks and settings need.

    A pooler is known by the number of the server process, which is not the one that it told us. One that pools sessions
    gives the process of a connection to no other, one that pools transactions does, or gives us another the next time.

    Raises:
        SurroundingsFailed: a pooler gives out server processes for one transaction only.
    """
    first = _backend(connection)
    if first == connection.info.backend_pid:
        return
    with closing(another()) as other:
        try:
            other.execute("begin")
            shared = first == _backend(other) or first != _backend(connection)
        except psycopg.errors.ProtocolViolation:  # it pools statements, and lets nobody begin a transaction
            shared = True
    if shared:
        raise SurroundingsFailed(
            "a connection pooler gives each transaction another session, so that no lock and no setting would last:"
            " connect to PostgreSQL itself, or to a pool with pool_mode = session."
        )


def _backend(connection: Session) -> int:
    """The number of the server process that runs this statement."""
    [(number,)] = connection.execute("select pg_backend_pid()").fetchall()
    return int(number)
