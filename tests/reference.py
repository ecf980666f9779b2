"""Writes docs/settings.md from .env.example, and docs/example.md from the shipped contract: make docs-reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
SETTINGS = """# Settings

Settings are read from the environment and from `.env` in the project's folder; the environment wins. Defaults are in
parentheses. `.env.example`, from which `make docs-reference` writes this list, also has the ports of docker compose.

"""
ENVIRONMENT = """
In the environment only:

- `STREAMFLOW_PROJECT_DIR`: the project's folder, like `--project-dir`
- `PGSERVER_POSTGRES_VERSION`: `16` or `18`, the version of a new embedded database
- `DBT_PACKAGE_HUB_URL`: another dbt package hub, for `streamflow setup`
- `NO_COLOR=1`, `FORCE_COLOR=1`: no colours in a terminal; colours in a pipe
- `PGSSLMODE` and others: [TLS](security.md#tls)
"""
EXAMPLE = """# The example: tables and audits

Written by `make docs-reference` from `dbt_project/models/staging/_sources.yml`. Each table has one row per customer;
below are its columns, with types and audits. An audit refuses the month, unless it is marked *warns* without
*refuses*. Empty values pass audits of ranges and sets. History also has `as_of` and `observed_as_of`, production
`observed_as_of`.

On every table: @EVERY@.
"""


def settings() -> str:
    """The text of docs/settings.md."""
    lines = (f"- `{name}`{f' (`{default}`)' if default else ''}: {meaning}" for name, default, meaning in _variables())
    return SETTINGS + "\n".join(lines) + "\n" + ENVIRONMENT


def example() -> str:
    """The text of docs/example.md."""
    path = REPOSITORY / "dbt_project" / "models" / "staging" / "_sources.yml"
    tables = yaml.safe_load(path.read_text(encoding="utf-8"))["sources"][0]["tables"]
    listed = [set(_named(_audits(table), _prefix(table))) for table in tables]
    every = [audit for audit in _named(_audits(tables[0]), _prefix(tables[0])) if all(audit in one for one in listed)]
    return EXAMPLE.replace("@EVERY@", ", ".join(every)) + "".join(_table(table, every) for table in tables)


def _variables() -> Iterator[tuple[str, str, str]]:
    """Each variable of .env.example with its default and the comment above it."""
    comment: list[str] = []
    for line in (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines():
        if line.startswith("# docker-compose.yml reads"):
            return
        if found := re.fullmatch(r"# ([A-Z_]+)=(.*)", line):
            yield found[1], found[2], " ".join(comment)
            comment = []
        else:
            comment = [*comment, line.removeprefix("# ")] if line else []


def _table(table: dict[str, Any], every: list[str]) -> str:
    prefix = _prefix(table)
    description = table["description"].partition(". ")[0]
    lines = [f"\n## {table['name']}\n", f"{description}. Its audits are `{prefix}...`:", ""]
    for column in table["columns"]:
        kind = column["data_type"] + (", optional" if column.get("config", {}).get("meta", {}).get("optional") else "")
        audits = ", ".join(_named(_audits(column), prefix))
        lines.append(f"- `{column['name']}` {kind}{audits and f': {audits}'}")
    if own := [audit for audit in _named(_audits(table), prefix) if audit not in every]:
        lines += ["", f"On the table: {', '.join(own)}."]
    return "\n".join([*lines, ""])


def _prefix(table: dict[str, Any]) -> str:
    """The prefix of a table's audit names, like audit_users_."""
    return "_".join([*next(iter(_audits(table))).split("_")[:2], ""])


def _audits(of: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The audits of a table or a column by their names."""
    return {audit["name"]: audit for test in of.get("data_tests", []) for audit in test.values()}


def _named(audits: dict[str, dict[str, Any]], prefix: str) -> list[str]:
    return [f"`{name.removeprefix(prefix)}`{_limits(audit)}" for name, audit in audits.items()]


def _limits(audit: dict[str, Any]) -> str:
    config = audit.get("config", {})
    if "warn_if" in config:
        return f" (warns {config['warn_if']} %, refuses {config['error_if']} %)"
    stale = "not_stale" in audit["name"]
    return " (warns)" if config.get("severity") == "warn" or stale else ""


PAGES = {"settings.md": settings, "example.md": example}


if __name__ == "__main__":
    for name, text in PAGES.items():
        (DOCS / name).write_text(text(), encoding="utf-8")
