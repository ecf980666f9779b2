"""The ledger's SQL, which loader and dbt share, rendered from dbt macros that use only plain Jinja."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from loader.project import PACKAGE

FILES = {
    "ledger/tables.sql": "ops_tables",
    "citus/citus.sql": "ops_cluster",
    "ledger/proofs.sql": "ops_proofs",
    "ledger/declared.sql": "ops_declared",
    "ledger/references.sql": "ops_references",
    "ledger/undo.sql": "ops_undo",
    "ledger/steps.sql": "ops_steps",
}
"""The macro files, in the order in which they run, and the macro in each."""


@cache
def _macros(path: str) -> Any:
    """The macros of a file, to call by name."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PACKAGE / "macros"))  # noqa: S701 (SQL)
    return environment.get_template(path).module


def ops_ddl() -> bytes:
    """SQL that creates the schemas and ops tables that are missing, and replaces the ops functions."""
    return "".join(str(getattr(_macros(path), macro)()) for path, macro in FILES.items()).encode()


def ops_functions() -> dict[str, str]:
    """Name -> body of each ops function, exactly as the server stores it."""
    return dict(re.findall(r"function ops\.(\w+)\(.*?\$\$(.*?)\$\$", ops_ddl().decode(), re.DOTALL))


def ops_views() -> dict[str, str]:
    """Name -> query of each ops view, in the order in which they are made."""
    return dict(re.findall(r"create or replace view ops\.(\w+) as\n(.*?);\n", ops_ddl().decode(), re.DOTALL))


def run_lock() -> tuple[int, int]:
    """The two keys of the advisory lock of a run."""
    first, second = str(_macros("ledger/steps.sql").run_lock()).split(",")
    return int(first), int(second)
