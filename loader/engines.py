"""Which server this is: one PostgreSQL, or Citus. What they do differently is in dbt_project/macros/engines."""

from __future__ import annotations

from typing import Literal

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from loader.database import Connection
from loader.errors import WrongUsage
from loader.settings import load_settings

Kind = Literal["postgres", "citus"]

PENDING = """
select nodename || ':' || nodeport from run_command_on_workers($$
    select count(*) from pg_prepared_xacts where database = current_database() and gid like 'citus\\_%'
$$) where not success or result <> '0'
"""
"""The workers that do not answer, or have a transaction prepared that Citus has not committed there yet."""

POSITION = "position_in_file"
PLACE_IN_FILE: dict[Kind, str] = {"postgres": "row_number() over (order by ctid)", "citus": POSITION}
"""What a row of a staging table is in its file, counted from 1."""


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
    """The nodes of a cluster that have not committed yet what the coordinator has, as host:port.

    Nodes commit one after the other, and that of another session may be under way: it is asked for some seconds.
    """
    if engine_of(connection) == "postgres":
        return []

    def ask() -> list[str]:
        return [node for (node,) in connection.execute(PENDING).fetchall()]

    waiting = Retrying(
        retry=retry_if_result(bool),
        wait=wait_fixed(0.2),
        stop=stop_after_delay(3),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    return waiting(ask) or []
