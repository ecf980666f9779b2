"""The ledger's SQL, which loader and dbt share, rendered from dbt macros that use only plain Jinja."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from loader.project import PACKAGE


@cache
def _macros() -> dict[str, Any]:
    """The ledger's macros by name. As in dbt, they call each other as `streamflow.<name>`."""
    import jinja2

    macros: dict[str, Any] = {}
    files = sorted((PACKAGE / "macros" / "ledger").glob("*.sql"))
    template = jinja2.Template("".join(path.read_text(encoding="utf-8") for path in files))
    macros |= vars(template.make_module({"streamflow": macros}))
    return macros


def ops_ddl() -> bytes:
    """SQL that creates the schemas and ops tables that are missing, and replaces the ops functions."""
    return str(_macros()["ops_ddl"]()).encode()


def ops_functions() -> set[tuple[str, str, str]]:
    """Name, body and settings of each ops function, exactly as the server stores them."""
    found = re.findall(r"function ops\.(\w+)\((.*?)\$\$(.*?)\$\$", ops_ddl().decode(), re.DOTALL)
    settings = re.compile(r"\bset (\w+) = (\w+)")
    return {(name, body, ", ".join(map("=".join, settings.findall(head)))) for name, head, body in found}


def ops_views() -> dict[str, str]:
    """Name -> query of each ops view, in the order in which they are made."""
    return dict(re.findall(r"create or replace view ops\.(\w+) as\n(.*?);\n", ops_ddl().decode(), re.DOTALL))


def run_lock() -> tuple[int, int]:
    """The two keys of the advisory lock of a run."""
    first, second = str(_macros()["run_lock"]()).split(",")
    return int(first), int(second)
