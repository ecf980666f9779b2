"""What is wrong with a delivery."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a delivery. `line` is the line number that an editor shows, from 1.

    `remedy` says what to do, if the reason is one that may explain many problems.
    """

    file: str
    reason: str
    line: int | None = None
    column: str | None = None
    value: str | None = None
    audit: str | None = None
    remedy: str | None = None
