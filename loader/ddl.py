"""The DDL that loader and dbt share, rendered from the dbt macros that hold it."""

from __future__ import annotations

from functools import cache

import jinja2

from loader.contracts import Table
from loader.settings import DBT_PROJECT


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FileSystemLoader(DBT_PROJECT / "macros" / "ddl"))  # noqa: S701


def ops_ddl() -> bytes:
    """Creates the ops schema and its tables where they are missing."""
    return str(_environment().get_template("ops.sql").module.ops_ddl()).encode()  # type: ignore[attr-defined]


def staging_ddl(table: Table) -> bytes:
    """Creates one staging table. Names and types were checked when the contract was read."""
    module = _environment().get_template("staging.sql").module
    return str(module.staging_ddl(table.name, table.columns)).encode()  # type: ignore[attr-defined]
