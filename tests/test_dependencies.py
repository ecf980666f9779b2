"""constraints.txt and pyproject.toml agree: each direct dependency is pinned, and every pin is for every Python."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LINES = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _required() -> list[Requirement]:
    """The direct dependencies of the program and of its extras."""
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for line in [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]]


def test_each_line_is_a_name_and_a_version() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []


def test_each_direct_dependency_is_pinned_to_a_version_that_is_allowed() -> None:
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LINES)}
    missing = [str(required) for required in _required() if canonicalize_name(required.name) not in pins]
    assert missing == [], "make constraints.txt anew: see CONTRIBUTING.md"
    refused = [
        str(required) for required in _required() if pins[canonicalize_name(required.name)] not in required.specifier
    ]
    assert refused == []


def test_each_pin_can_be_installed_on_the_oldest_python() -> None:
    """As far as its package is installed here, which says for which versions of Python it is."""
    [oldest] = [one.version for one in SpecifierSet(PROJECT["requires-python"]) if one.operator == ">="]
    pins = {line.partition("==")[0] for line in LINES}
    said = [one.metadata for one in metadata.distributions() if "Requires-Python" in one.metadata]
    known = {one["Name"]: one["Requires-Python"] for one in said if one["Name"] in pins}
    assert len(known) > 50
    assert [name for name, wanted in known.items() if oldest not in SpecifierSet(wanted)] == []


def test_what_the_code_imports_is_declared() -> None:
    """Apart from parts of dbt and of fsspec, which the program changes."""
    nodes = [node for path in REPOSITORY.glob("loader/**/*.py") for node in ast.walk(ast.parse(path.read_bytes()))]
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    foreign = {name.partition(".")[0] for name in named} - sys.stdlib_module_names - {"loader"}
    of, declared = metadata.packages_distributions(), {canonicalize_name(required.name) for required in _required()}
    undeclared = {name for name in foreign if declared.isdisjoint(map(canonicalize_name, of.get(name, [])))}
    assert undeclared == {"aiohttp", "dbt_common", "paramiko", "psycopg2"}
