"""What is asked of an attempt at a month, and how it ended: what the summary, `--json` and the ledger say of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from loader.delivery import Problem
from loader.errors import DataRefused

if TYPE_CHECKING:
    from loader.ledger import AuditResult, TableCounts, Waiver
    from loader.pipeline.dbt import Node
    from loader.refusals.rejects import Rejects

Command = Literal["ingest", "land", "check"]
REPLACE = 'to replace it, use --restate --reason "..."'
PUBLISHED = f"month {{}} is published already for {{}}, with other rows; nothing was changed: {REPLACE}"
FINISHED = f"month {{}} was begun for {{}}, with other rows, and is published now: {REPLACE}"
BEGUN = "month {0} was begun for {1}, with other rows; to give those up: `streamflow abandon {0}`"
"""Why files with other rows than history are refused, with the month and its date."""
WARNINGS_KEPT = 1_000
"""How many rows of warnings a result carries; further ones are only counted."""


@dataclass(frozen=True)
class Request:
    """What is to be done with a month's files.

    `force` audits and builds again even if nothing is new; `restate` is the reason for replacing a published month by
    other rows; `waive` has the audits that only warn, each with the reason; `wait` is how many seconds to wait for a
    month that is not there yet.
    """

    command: Command
    force: bool = False
    restate: str | None = None
    waive: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0


@dataclass
class Outcome:
    """How one attempt at one month ended. `timings` are seconds per step.

    `state` is published, unchanged, landed, checked, refused, or failed, and `message` says it in a sentence. `failed`
    has what failed or was skipped after the month was published: models, tests, its schema, report or archiving.
    `more_warnings` counts the warnings that `warnings` leaves out. `manifest` is the line of the publication in a
    manifest.
    """

    command: Command
    month: str
    as_of: dt.date
    state: str
    uri: str
    message: str = ""
    counts: list[TableCounts] = field(default_factory=list)
    audits: list[AuditResult] = field(default_factory=list)
    waivers: list[Waiver] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    more_warnings: int = 0
    failed: list[Node] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    rejects: Rejects | None = None
    manifest: str | None = None

    def audits_that(self, status: str) -> list[AuditResult]:
        """The audits with that verdict: pass, warn or fail."""
        return [audit for audit in self.audits if audit.status == status]


class Refused(DataRefused):
    """A month was refused. `outcome` and `rejects` say why."""

    def __init__(self, outcome: Outcome, rejects: Rejects) -> None:
        super().__init__(outcome.message)
        self.outcome, self.rejects = outcome, rejects

    @property
    def report(self) -> str:
        """The text for the terminal: the sentence, the first problems, and the file that has all of them."""
        return "\n".join([str(self), *self.rejects.as_lines()])
