"""Where tests make their databases: a server of this machine, or a Citus cluster that somebody else runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

SUPERUSER = "postgres"
EMPTY_ON_CITUS = "streamflow_empty"


@dataclass(frozen=True)
class Server:
    """One server, or the coordinator of a cluster; `workers` has the host and port of its other nodes."""

    host: str
    port: int = 5432
    workers: tuple[tuple[str, int], ...] = ()

    @property
    def empty(self) -> str:
        """The template of an empty database."""
        return EMPTY_ON_CITUS if self.workers else "template1"

    @property
    def variables(self) -> dict[str, str]:
        """The settings with which streamflow finds this server."""
        return {"POSTGRES_HOST": self.host, "POSTGRES_PORT": str(self.port)}

    def make(self, database: str, template: str | None = None) -> None:
        """Make a database, from a template or empty; an older one of this name is dropped."""
        self.drop(database)
        statement = sql.SQL("create database {} template {}")
        self.everywhere(statement.format(sql.Identifier(database), sql.Identifier(template or self.empty)))

    def drop(self, database: str) -> None:
        """Drop a database, with its sessions and the transactions that a killed node left prepared."""
        self._roll_back(database)
        self._close(database)
        self.everywhere(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database)))

    def keep(self, database: str, name: str) -> None:
        """Rename a database and forbid connections to it, so that it can serve as a template."""
        self.drop(name)
        self._close(database)
        names = (sql.Identifier(database), sql.Identifier(name))
        self.everywhere(sql.SQL("alter database {} rename to {}").format(*names))

    def _close(self, database: str) -> None:
        """End all sessions of a database and forbid new ones: otherwise the daemon of Citus reconnects."""
        for statement in (
            "update pg_database set datallowconn = false where datname = {}",
            "select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = {}",
        ):
            self.everywhere(sql.SQL(statement).format(database))

    def _roll_back(self, database: str) -> None:
        """Roll back the prepared transactions of a database on the workers: they would prevent its drop."""
        for host, port in self.workers:
            node = Server(host, port)
            with contextlib.closing(connect(node, "postgres")) as admin:
                left = admin.execute("select gid from pg_prepared_xacts where database = %s", [database]).fetchall()
                admin.execute("update pg_database set datallowconn = true where datname = %s", [database])
            if left:
                with contextlib.closing(connect(node, database)) as session:
                    for (gid,) in left:
                        session.execute(sql.SQL("rollback prepared {}").format(gid))

    def everywhere(self, statement: sql.Composed) -> None:
        """Run a statement on every node."""
        for host, port in ((self.host, self.port), *self.workers):
            with contextlib.closing(connect(Server(host, port), "postgres")) as admin:
                admin.execute(statement)


def connect(
    server: Server | Mapping[str, str], database: str, user: str = SUPERUSER, password: str | None = None
) -> psycopg.Connection[Any]:
    """Connect to a server, or to the one that the settings name; as the superuser unless `user` is given."""
    at = server if isinstance(server, Server) else Server(server["POSTGRES_HOST"], int(server["POSTGRES_PORT"]))
    return psycopg.connect(host=at.host, port=at.port, user=user, password=password, dbname=database, autocommit=True)


def cluster(uri: str) -> Server:
    """The cluster whose coordinator a URI names. Makes its empty template; does not change the URI's own database."""
    with psycopg.connect(uri, autocommit=True) as coordinator:
        found = coordinator.execute(
            "select nodename, nodeport from pg_dist_node where noderole = 'primary' and groupid <> 0 and isactive"
        ).fetchall()
    where = conninfo_to_dict(uri)
    server = Server(str(where["host"]), int(where.get("port") or 5432), tuple(found))
    server.drop(EMPTY_ON_CITUS)
    server.make("streamflow_new", "template1")
    for host, port in (*found, (server.host, server.port)):
        with contextlib.closing(connect(Server(host, port), "streamflow_new")) as node:
            node.execute("create extension citus")
    with contextlib.closing(connect(server, "streamflow_new")) as coordinator:
        coordinator.execute("select citus_set_coordinator_host(%s, %s)", [server.host, server.port])
        for worker in found:
            coordinator.execute("select citus_add_node(%s, %s)", worker)
    server.keep("streamflow_new", EMPTY_ON_CITUS)
    return server
