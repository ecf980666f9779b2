"""The SQL that loader and dbt share, rendered from the dbt macros that hold it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import jinja2

from loader.contract.tables import Table
from loader.database.engines import Kind
from loader.settings import DBT_PROJECT


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FileSystemLoader(DBT_PROJECT / "macros"))  # noqa: S701


def ops_ddl() -> bytes:
    """Creates the ops schema and its tables where they are missing."""
    return str(_environment().get_template("ddl/ops.sql").module.ops_ddl()).encode()  # type: ignore[attr-defined]


def staging_ddl(table: Table, engine: Kind) -> bytes:
    """Creates one staging table. Names and types were checked when the contract was read."""
    module = _environment().get_template("ddl/staging.sql").module
    statements = str(module.staging_ddl(table.name, table.columns))  # type: ignore[attr-defined]
    relation = f'"staging"."{table.name}"'
    statements += _on(engine, "number_rows")(table.name)
    return (statements + _on(engine, "distribute")(relation, table.primary_key)).encode()


def pending_nodes_sql() -> bytes:
    """Asks a cluster's coordinator for the workers that lack what others have."""
    return _on("citus", "pending_nodes")().encode()


def recover_sql() -> bytes:
    """Has a cluster finish what a node was committing when it failed, where the role may ask for that."""
    return _on("citus", "recover")().encode()


def _on(engine: Kind, macro: str) -> Callable[..., str]:
    module = _environment().get_template(f"engines/{engine}.sql").module
    return lambda *arguments: str(getattr(module, f"{engine}__{macro}")(*arguments))
