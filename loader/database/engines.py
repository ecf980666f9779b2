"""Which server this is: one PostgreSQL, or Citus. What they do differently is in dbt_project/macros/citus."""

from __future__ import annotations

from typing import Literal

from loader.database.connect import Connection
from loader.errors import WrongUsage
from loader.settings import load_settings

Kind = Literal["postgres", "citus"]

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
