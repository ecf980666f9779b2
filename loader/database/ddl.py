"""The SQL that loader and dbt share, rendered from the dbt macros that hold it; these are plain Jinja."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from loader.contract.tables import Table
from loader.project import PACKAGE


@cache
def _macros(path: str) -> Any:
    """The macros of a file, to call by name."""
    import jinja2

    files = jinja2.FileSystemLoader(PACKAGE / "macros")
    environment = jinja2.Environment(loader=files, extensions=["jinja2.ext.do"])  # noqa: S701 (SQL)
    return environment.get_template(path).module


def ops_ddl() -> bytes:
    """Creates the ops schema and its tables where they are missing."""
    return str(_macros("ledger/ops_ddl.sql").ops_ddl()).encode()


def ops_functions() -> dict[str, str]:
    """The functions of the ledger by name, as the server keeps their bodies."""
    return dict(re.findall(r"function ops\.(\w+)\(.*?\$\$(.*?)\$\$", ops_ddl().decode(), re.DOTALL))


def run_lock() -> tuple[int, int]:
    """The two keys of the advisory lock of a run."""
    first, second = str(_macros("ledger/ops_ddl.sql").run_lock()).split(",")
    return int(first), int(second)


def staging_ddl(table: Table) -> list[bytes]:
    """The statements that create one staging table. Names and types were checked when the contract was read."""
    created = _macros("ledger/staging_ddl.sql").staging_ddl(table.name, table.columns)
    spread = _macros("citus/citus.sql").spread_over_nodes(f'"staging"."{table.name}"', table.key, True)
    return [str(created).encode(), str(spread).encode()]


def spread(relation: str, key: str) -> bytes:
    """The statement that spreads a new table of history over a cluster's nodes; it does nothing elsewhere."""
    return str(_macros("citus/citus.sql").spread_over_nodes(relation, key)).encode()


def pending_nodes_sql() -> bytes:
    """Asks a cluster's coordinator for the workers that are away, or lack what others have."""
    return str(_macros("citus/citus.sql").pending_nodes_sql()).encode()
