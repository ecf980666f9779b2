"""What dbt says of an audit, a test that reads staging."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Audit:
    """What dbt says of one test on staging: its declaration, and the SQL that it was compiled to."""

    audit_id: str
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
    """Whether it reads anything besides its table."""
    limit: Mapping[str, str]
    """Status -> the condition on its number that says so, like `> 50`."""
    path: str

    @property
    def lists_rows(self) -> bool:
        """Whether each row that its SQL gives is a failure; otherwise it gives measurements."""
        return re.sub(r"\s", "", self.fail_calc).lower() in {"count(*)", "count(1)"}


def audit_of(node: Any, sources: Mapping[str, Any]) -> Audit | None:
    """The audit that a compiled test of dbt's is; None for a test that does not read staging.

    `sources` are those of dbt's manifest by unique id.
    """
    read = [sources[name] for name in node.depends_on.nodes if name in sources]
    staged = {source.name: source for source in read if source.source_name == "staging"}
    if not staged:
        return None
    generic = getattr(node, "test_metadata", None)  # a singular test has none
    arguments = dict(generic.kwargs) if generic else {}
    declared_on = re.search(r"source\('staging', '(\w+)'\)", str(arguments.pop("model", "")))
    table = staged.get(declared_on.group(1) if declared_on else "", next(iter(staged.values())))
    return Audit(
        audit_id=node.unique_id,
        audit_name=node.name,
        table_name=table.name,
        column_name=getattr(node, "column_name", None),
        severity=str(node.config.severity).lower(),
        test=generic.name if generic else node.name,
        arguments=arguments,
        description=node.description,
        compiled=node.compiled_code or "",
        where=node.config.where,
        fail_calc=node.config.fail_calc,
        relation=table.relation_name,
        reads=frozenset(staged),
        others=set(node.depends_on.nodes) != {table.unique_id},
        limit={"fail": node.config.error_if, "warn": node.config.warn_if},
        path=node.original_file_path,
    )
