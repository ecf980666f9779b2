"""Connections to the embedded server or to the one that POSTGRES_* names, for psycopg, psql and dbt."""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping
from psycopg.rows import TupleRow

from loader.database import retries, server
from loader.database.sessions import require_session_of_its_own, require_utf8, session_settings
from loader.settings import Settings

Connection = psycopg.Connection[TupleRow]

logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it logs errors that are handled here, with values of rows

ELSEWHERE = {"PGHOSTADDR": ""}
"""Empty, because a value would lead libpq to a server other than the named one."""

KEPT_ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""So that a firewall does not drop the idle connection that holds the lock, and a dead one is noticed in a minute."""


@dataclass(frozen=True)
class Database:
    """A database and how to reach it. The password is kept out of repr, URI and process list."""

    host: str
    port: int
    user: str
    name: str
    password: str | None = field(repr=False)
    embedded: bool

    @property
    def uri(self) -> str:
        """A libpq URI without the password; libpq reads the password from PGPASSWORD or ~/.pgpass."""
        user, name = quote(self.user, safe=""), quote(self.name, safe="")
        if self.host.startswith("/"):
            return f"postgresql://{user}@/{name}?host={quote(self.host)}&port={self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{user}@{host}:{self.port}/{name}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that dbt reads, through its profile and libpq."""
        return {
            "POSTGRES_HOST": self.host,
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_USER": self.user,
            "POSTGRES_PASSWORD": self.password or "none needed",
            "POSTGRES_DB": self.name,
            "PGCLIENTENCODING": "UTF8",
            **ELSEWHERE,
        }

    @property
    def libpq_environment(self) -> dict[str, str]:
        """The environment variables that psql and pg_dump read."""
        where = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGDATABASE": self.name}
        return where | ELSEWHERE | ({"PGPASSWORD": self.password} if self.password else {})

    def connect(self) -> Connection:
        """Open a connection in autocommit mode; callers begin each transaction explicitly.

        Retries for some seconds if the server does not answer, and for as long as it says that it starts or recovers.

        Raises:
            NotConnected: the server cannot be reached, or rejects the login.
            SurroundingsFailed: the database is not UTF-8, or a pooler shares its sessions between transactions.
        """
        try:
            connection = retries.connecting(self._recovers)(self._open)
            with ExitStack() as unfit:
                unfit.callback(connection.close)
                require_utf8(connection)
                require_session_of_its_own(connection, self._open)
                connection.execute(session_settings())
                connection.commit()
                unfit.pop_all()
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[0]
            raise retries.NotConnected(
                f"no connection to {self.uri}: {reason}\nCheck POSTGRES_* in the environment and .env."
            ) from None
        return connection

    def _recovers(self) -> bool:
        """Whether the server is running but does not accept connections yet."""
        recovers = PGconn.ping(make_conninfo(**self._parameters).encode()) == Ping.REJECT
        if recovers:
            logging.getLogger("streamflow").info(f"{self.uri} is starting or recovering: waiting for it")
        return recovers

    def _open(self) -> Connection:
        own: dict[str, Any] = {"password": self.password, "application_name": "streamflow", "client_encoding": "utf8"}
        return psycopg.connect(**self._parameters, **own, autocommit=True)

    @property
    def _parameters(self) -> dict[str, Any]:
        where = {"host": self.host, "hostaddr": "", "port": self.port, "user": self.user, "dbname": self.name}
        return where | {"connect_timeout": 10} | KEPT_ALIVE


def open_database(settings: Settings) -> Database:
    """The database that the settings name; starts the embedded server and creates its database if necessary.

    Raises:
        SurroundingsFailed: the embedded server does not start.
    """
    if settings.host is not None:
        return _named(settings, settings.host)
    database = _named(settings, str(server.start(settings.home)))
    with replace(database, name="postgres").connect() as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", [database.name]).fetchone():
            with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):  # another session did so
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(database.name)))
    return database


def running_database(settings: Settings) -> Database | None:
    """As `open_database`, but starts and creates nothing: None if the embedded server is not running."""
    host = server.socket_directory(settings.home) if settings.embedded else settings.host
    return _named(settings, str(host)) if host else None


def _named(settings: Settings, host: str) -> Database:
    if settings.embedded:
        return Database(host, 5432, server.USER, settings.database, None, embedded=True)
    password = settings.password.get_secret_value()
    return Database(host, settings.port, settings.user, settings.database, password, embedded=False)
