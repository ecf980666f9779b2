"""The SQL that loader and dbt share, rendered from the dbt macros that hold it; these are plain Jinja."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from loader.contract.tables import Table
from loader.settings import DBT_PROJECT

Kind = Literal["postgres", "citus"]
"""Which server a database is on: one PostgreSQL, or Citus."""


@cache
def _macros(path: str) -> Any:
    """The macros of a file, to call by name; `return` is dbt's and gives a list here."""
    import jinja2

    files = jinja2.FileSystemLoader(DBT_PROJECT / "macros")
    environment = jinja2.Environment(loader=files, extensions=["jinja2.ext.do"])  # noqa: S701 (SQL)
    environment.globals["return"] = "\n".join
    return environment.get_template(path).module


def ops_ddl() -> bytes:
    """Creates the ops schema and its tables where they are missing."""
    return str(_macros("ledger/ops_ddl.sql").ops_ddl()).encode()


def run_lock() -> tuple[int, int]:
    """The two keys of the advisory lock of a run."""
    first, second = str(_macros("ledger/ops_ddl.sql").run_lock()).split(",")
    return int(first), int(second)


def staging_ddl(table: Table, engine: Kind) -> list[bytes]:
    """The statements that create one staging table. Names and types were checked when the contract was read."""
    statements = [str(_macros("ledger/staging_ddl.sql").staging_ddl(table.name, table.columns))]
    if engine == "citus":
        relation = f'"staging"."{table.name}"'
        statements += str(_macros("citus/citus.sql").citus_ddl(relation, table.primary_key, True)).split("\n")
    return [text.strip().encode() for text in statements if text.strip()]


def pending_nodes_sql() -> bytes:
    """Asks a cluster's coordinator for the workers that are away, or lack what others have."""
    return str(_macros("citus/citus.sql").pending_nodes_sql()).encode()
