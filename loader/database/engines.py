"""Whether this is one PostgreSQL or Citus, and its nodes; what is SQL about that is in dbt_project/macros/citus."""

from __future__ import annotations

import time

from loader.database.connect import Connection
from loader.database.ddl import Kind, pending_nodes_sql
from loader.errors import WrongUsage
from loader.settings import load_settings

POSITION = "position_in_file"
PLACE_IN_FILE: dict[Kind, str] = {"postgres": "row_number() over (order by ctid)", "citus": POSITION}
"""What a row of a staging table is in its file, counted from 1."""

RECOVER = (
    "select recover_prepared_transactions() where has_function_privilege('recover_prepared_transactions()', 'execute')"
)
"""Has Citus finish what a node was committing when it failed, where this role may ask for that."""


def engine_of(connection: Connection) -> Kind:
    """The engine of a database: as STREAMFLOW_ENGINE says, or by whether the database has the extension of Citus.

    Raises:
        WrongUsage: STREAMFLOW_ENGINE says citus, and the database is not one.
    """
    said = load_settings().engine
    if said == "postgres":
        return "postgres"
    if connection.execute("select 1 from pg_extension where extname = 'citus'").fetchone():
        return "citus"
    if said == "citus":
        raise WrongUsage(
            f"STREAMFLOW_ENGINE=citus, and the database {connection.info.dbname} has no extension citus: connect to a"
            " cluster's coordinator, to a database in which `create extension citus` was run."
        )
    return "postgres"


def takes_role(connection: Connection, name: str) -> bool:
    """Whether a role of that name can own what the loader makes: Citus does not quote the new owner of a sequence."""
    plain = connection.execute("select quote_ident(%s) = %s", [name, name]).fetchone() == (True,)
    return plain or engine_of(connection) == "postgres"


def pending_nodes(connection: Connection) -> list[str]:
    """The nodes that are away or have not committed yet what the coordinator has, as host:port; [] on one PostgreSQL.

    Nodes commit one after the other, and another session's commit may be under way: a second is waited for that.
    """
    nodes: list[str] = []
    for _ in range(10 if engine_of(connection) == "citus" else 0):
        nodes = [node for (node,) in connection.execute(pending_nodes_sql()).fetchall()]
        if not nodes:
            break
        connection.execute(RECOVER)
        time.sleep(0.1)
    return nodes


def nodes_failed(nodes: list[str]) -> str:
    """The sentences for that, and what to do next."""
    return (
        f"{', '.join(nodes)} cannot be reached, or has yet to finish what it was committing when it failed. Citus does"
        " that when it is back (citus.recover_2pc_interval, a minute). Then try again, and `streamflow verify`."
    )
