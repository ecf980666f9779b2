"""Audits are dbt tests that read staging: how they are declared, which cannot be run, and which may be waived."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from loader.contract.names import LONGEST
from loader.contract.tables import Table
from loader.database import Connection, value
from loader.errors import WrongDeclaration, WrongUsage
from loader.pipeline.dbt import DbtRun

UNIQUE = {
    "unique", "expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique",
    "unique_combination_of_columns",
}  # fmt: skip
"""Tests that no two rows have the same values."""
AUDIT = "streamflow_audit"
"""The tag of audits, while nothing but audits is to run."""
NOT_NULL = {"not_null", "expect_column_values_to_not_be_null"}
COLUMN_LISTS = ("column_list", "combination_of_columns")
"""The arguments in which a test of several columns names them."""


@dataclass(frozen=True)
class Audit:
    """One test on staging as dbt knows it: its declaration and its compiled SQL."""

    audit_name: str
    table_name: str
    column_name: str | None
    severity: str
    test: str
    arguments: dict[str, Any]
    description: str
    compiled: str
    where: str | None
    fail_calc: str
    relation: str
    reads: frozenset[str]
    """The staging tables that it reads."""
    others: bool
    """Whether it reads anything other than its table."""
    limit: Mapping[str, str]
    """Status, `fail` or `warn` -> the condition under which the audit's number means it, like `> 50`."""
    path: str

    @property
    def query(self) -> str:
        """The compiled SQL without its semicolon, for use within other SQL."""
        return self.compiled.rstrip().rstrip(";")

    @property
    def columns(self) -> set[str]:
        """The columns that it is declared on."""
        named = [self.column_name, *(one for name in COLUMN_LISTS for one in self.arguments.get(name) or ())]
        return {str(name).strip('"') for name in named if name}

    @property
    def lists_rows(self) -> bool:
        """Whether each row that its SQL returns is a failure; otherwise the rows are measurements."""
        return re.sub(r"\s", "", self.fail_calc).lower() in {"count(*)", "count(1)"}


def audit_of(node: Any, sources: Mapping[str, Any]) -> Audit | None:
    """A compiled dbt test as an audit; None for a test that does not read staging, or that also reads a model.

    `sources` are the sources in dbt's manifest, by unique id.
    """
    read = [sources[name] for name in node.depends_on.nodes if name in sources]
    # a project may have other sources called staging: those that a month lands in have a key
    staged = {one.name: one for one in read if one.source_name == "staging" and one.config.meta.get("primary_key")}
    if not staged or not all(name.startswith(("source.", "seed.", "function.")) for name in node.depends_on.nodes):
        return None
    generic = getattr(node, "test_metadata", None)  # a singular test has none
    arguments = dict(generic.kwargs) if generic else {}
    declared_on = re.search(r"source\('staging', '(\w+)'\)", str(arguments.pop("model", "")))
    table = staged.get(declared_on.group(1) if declared_on else "", next(iter(staged.values())))
    relation = sql.Identifier(table.schema, table.identifier).as_string()
    # `quoting` or a project's own ref() may leave out quotes or the database
    named = rf'(?<![\w."])(("[^"]+"|\w+)\.)?"?{table.schema}"?\."?{table.identifier}(?!\w)"?'
    return Audit(
        audit_name=node.name,
        table_name=table.name,
        column_name=getattr(node, "column_name", None),
        severity=str(node.config.severity).lower(),
        test=generic.name if generic else node.name,
        arguments=arguments,
        description=node.description,
        compiled=re.sub(named, relation, node.compiled_code or ""),
        where=node.config.where,
        fail_calc=node.config.fail_calc,
        relation=relation,
        reads=frozenset(staged),
        others=set(node.depends_on.nodes) != {table.unique_id},
        limit={"fail": node.config.error_if, "warn": node.config.warn_if},
        path=node.original_file_path,
    )


def audit_in(result: DbtRun, audit_id: str) -> Audit:
    """The audit with this unique id, with the SQL that ran."""
    nodes = (node for node in result.tests if node.unique_id == audit_id)
    return next(audit for node in nodes if (audit := audit_of(node, result.sources)))


def require_runnable(connection: Connection, result: DbtRun) -> None:
    """Check that no audit ended in an error because of its declaration.

    Raises:
        WrongDeclaration: an audit did not compile, or the server rejects its SQL; the message says why and what to do.
    """
    broken = {node.name: node.message for node in result.bad if node.status == "error"}
    for node in result.tests:
        if node.name not in broken or (audit := audit_of(node, result.sources)) is None:
            continue
        if node.config.store_failures and len(node.alias) > LONGEST:
            reason = f"it stores its failures in a table, and its name is longer than {LONGEST} characters"
            raise _not_runnable(audit, reason, "give it a shorter name")
        if not audit.compiled:
            raise _not_runnable(audit, broken[node.name], "correct it")
        try:
            with connection.transaction(force_rollback=True):
                counted = sql.SQL("select {} from (\n{}\n) as failed")
                failures = value(connection, counted.format(sql.SQL(audit.fail_calc), sql.SQL(audit.query)))
        except psycopg.errors.InsufficientPrivilege:
            continue
        except psycopg.ProgrammingError as error:
            remedy = "let it fit the columns as they are declared now"
            raise _not_runnable(audit, error.diag.message_primary or "", remedy) from None
        except psycopg.Error:  # not because of the declaration, and dbt's message is better
            continue
        if type(failures) is not int:
            reason = f"its fail_calc {audit.fail_calc} did not return a whole number"
            raise _not_runnable(audit, reason, "make it one, like coalesce(sum(failed), 0)::int")


def _not_runnable(audit: Audit, reason: str, remedy: str) -> WrongDeclaration:
    return WrongDeclaration(
        f"the audit {audit.audit_name} of {audit.table_name} cannot be run: {reason}. The files are not the cause:"
        f" in {audit.path}, {remedy}, or remove the audit. Nothing was published."
    )


def _audits(manifest: Any) -> Iterator[tuple[Any, Audit]]:
    """Yield dbt's node and the Audit for each audit in the manifest."""
    for node in manifest.nodes.values():
        if node.resource_type == "test" and (audit := audit_of(node, manifest.sources)):
            yield node, audit


def seeds_of_audits(manifest: Any) -> list[str]:
    """The names of the seeds that audits read, from dbt's manifest of this project."""
    read = {name for node, _ in _audits(manifest) for name in node.depends_on.nodes if name in manifest.nodes}
    return sorted(manifest.nodes[name].name for name in read)


def mark_audits(manifest: Any) -> Any:
    """Give the audits in dbt's manifest a tag by which dbt selects them, whatever their names are, and return it.

    Takes out the on-run-end hooks of other packages: if one failed, dbt would not enter the verdicts.
    """
    for node, _ in _audits(manifest):
        node.tags.append(AUDIT)
    for name, node in [*manifest.nodes.items()]:
        if "on-run-end" in node.tags and node.resource_type == "operation" and node.package_name != "streamflow":
            del manifest.nodes[name]
    return manifest


def require_waivable(manifest: Any, tables: Sequence[Table], names: Iterable[str]) -> None:
    """Check that each name is that of an audit that may be waived.

    Args:
        manifest: dbt's manifest of this project.

    Raises:
        WrongUsage: there is no such audit, it only warns, or a key depends on it; the message names the audit.
    """
    known, declared = dict[str, list[Audit]](), {table.name: table for table in tables}
    for _, audit in _audits(manifest):
        known.setdefault(audit.audit_name, []).append(audit)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "`streamflow dbt ls --resource-type test` has all."
            raise WrongUsage(f"no audit is called {name}: {hint} Nothing was changed.")
        for audit in known[name]:
            if audit.severity != "error":
                raise WrongUsage(f"{name} only warns and never refuses a month: there is nothing to waive, omit it.")
            if stands_on_it := key_of(audit, declared[audit.table_name]):
                raise WrongUsage(
                    f"{name} cannot be waived: {stands_on_it} depends on it, so the database would reject the rows."
                    " Have the file corrected."
                )


def key_of(audit: Audit, table: Table) -> str | None:
    """The key that bad rows would violate if the audit were waived, in words; None if no key depends on it."""
    columns, to = audit.columns, table.references
    if audit.test == "relationships" and to and to.table in audit.reads and columns <= set(to.columns):
        return f"the foreign key of {table.name} to {to.table}"
    is_key = columns == set(table.key) if audit.test in UNIQUE else columns and columns <= set(table.key)
    return f"the primary key of {table.name}" if is_key and audit.test in UNIQUE | NOT_NULL else None
