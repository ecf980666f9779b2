"""What audits warned of, and which were waived, in sentences: the same for `status` and for the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def warned(audits: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence a finding, with the tables that have the same one; and one for each audit that only counts.

    Args:
        audits: those that warned, each with `audit`, `table`, `column`, `failures` and `finding`.
    """
    tables: dict[str, list[str]] = {}
    for audit in audits:
        if audit["finding"]:
            tables.setdefault(audit["finding"], []).append(audit["table"])
    yield from (f"{', '.join(names)}: {finding}" for finding, names in tables.items())
    for audit in audits:
        if not audit["finding"]:
            where = f"{audit['table']}.{audit['column']}" if audit["column"] else audit["table"]
            yield f"{where}: {audit['audit']} warned: {audit['failures']:,}"


def waived(waiver: Mapping[str, Any]) -> str:
    """Who waived an audit, when and why; `waiver` has `audit`, `by`, `at` and `reason`."""
    return f"{waiver['audit']}, by {waiver['by']} on {waiver['at'][:16].replace('T', ' ')} UTC: {waiver['reason']}"
