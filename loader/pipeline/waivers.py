"""Which audits may be waived: error-level ones that no key of the tables stands on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loader.contract.tables import Table
from loader.errors import WrongUsage
from loader.pipeline.audit_reasons import UNIQUE
from loader.pipeline.audits import Audit, audit_of

NOT_NULL = {"not_null", "expect_column_values_to_not_be_null"}
COLUMN_LISTS = ("column_list", "combination_of_columns")
"""What the tests of several columns call them."""


def require_waivable(manifest: Any, tables: Sequence[Table], names: Iterable[str]) -> None:
    """Go on only where each name is that of an audit that may be waived.

    Args:
        manifest: dbt's, of this project.

    Raises:
        WrongUsage: there is no such audit, it does not refuse anything, or keys stand on it; the message says which.
    """
    known: dict[str, list[Audit]] = {}
    for node in manifest.nodes.values():
        if node.resource_type == "test" and not node.refs and (audit := audit_of(node, manifest.sources)):
            known.setdefault(audit.audit_name, []).append(audit)
    declared = {table.name: table for table in tables}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "`streamflow dbt ls --resource-type test` has all."
            raise WrongUsage(f"no audit is called {name}: {hint} Nothing was changed.")
        for audit in known[name]:
            if audit.severity != "error":
                raise WrongUsage(f"{name} only warns, so it keeps no month out: leave its --waive away.")
            if stands_on_it := _key_of(audit, declared[audit.table_name]):
                raise WrongUsage(
                    f"{name} cannot be waived: {stands_on_it} stands on it, and the tables could not take the rows in."
                    " Have the file corrected."
                )


def _key_of(audit: Audit, table: Table) -> str | None:
    """The key of the tables that would break if the audit were waived."""
    if audit.test == "relationships":
        to = re.findall(r"\w+", str(audit.arguments.get("to")))[-1:]
        is_key = table.references is not None and to == [table.references.table]
        return f"the foreign key of {table.name} to {to[0]}" if is_key else None
    lists: Mapping[str, Any] = audit.arguments
    named = [audit.column_name or "", *(one for name in COLUMN_LISTS for one in lists.get(name) or [])]
    columns = {str(name).strip('"') for name in named} - {""}
    if columns and (
        columns == set(table.key) if audit.test in UNIQUE else audit.test in NOT_NULL and columns <= set(table.key)
    ):
        return f"the primary key of {table.name}"
    return None
