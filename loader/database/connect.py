"""Connections: to the embedded server or to the one that POSTGRES_* names, for psycopg, psql and dbt alike."""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
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

logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it tells of errors that are handled here, with values of rows

ELSEWHERE = {"PGHOSTADDR": ""}
"""What would lead libpq to another server than the one that is named, made empty."""


@dataclass(frozen=True)
class Database:
    """One reachable database. The password is kept out of repr, URI and process list."""

    host: str
    port: int
    user: str
    name: str
    password: str | None
    embedded: bool

    def __repr__(self) -> str:
        return f"Database({self.uri})"

    @property
    def uri(self) -> str:
        """A libpq URI without the password; libpq takes that from PGPASSWORD or ~/.pgpass."""
        user, name = quote(self.user), quote(self.name)
        if self.host.startswith("/"):
            return f"postgresql://{user}@/{name}?host={quote(self.host)}&port={self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{user}@{host}:{self.port}/{name}"

    @property
    def environment(self) -> dict[str, str]:
        """What dbt's profile, and so `dbt` itself, reads."""
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
        """What psql and pg_dump read."""
        where = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGDATABASE": self.name}
        return where | ELSEWHERE | ({"PGPASSWORD": self.password} if self.password else {})

    def connect(self) -> Connection:
        """A new connection in autocommit mode; each transaction is opened by name.

        A server that does not answer is given some seconds, one that says that it recovers as long as it does.

        Raises:
            NotConnected: the server cannot be reached, or does not let us in.
            SurroundingsFailed: it is not fit for use.
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
        """Whether the server is there, and says that it does not take connections yet."""
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
        return where | {"connect_timeout": 10}


def open_database(settings: Settings) -> Database:
    """The database that the settings name, its server started and the database made where it is the embedded one.

    Raises:
        SurroundingsFailed: the embedded server does not start.
    """
    name = settings.database
    if settings.host is not None:
        password = settings.password.get_secret_value()
        return Database(settings.host, settings.port, settings.user, name, password, embedded=False)
    database = Database(str(server.start(settings.home)), 5432, server.USER, name, None, embedded=True)
    with replace(database, name="postgres").connect() as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):  # another was faster
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return database


def running_database(settings: Settings) -> Database | None:
    """The database that the settings name; None where that is the embedded one, and its server does not run."""
    is_stopped = settings.embedded and server.socket_directory(settings.home) is None
    return None if is_stopped else open_database(settings)
