"""What is asked of a month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Command = Literal["ingest", "land", "check"]


@dataclass(frozen=True)
class Request:
    """What is to be done with a month's files.

    `force` audits and builds again even where nothing is new; `restate` is the reason why a published month is to be
    replaced by other rows; `waive` has the audits that are to warn only, each with the reason; `wait` is for how many
    seconds to wait for a month that is not there yet.
    """

    command: Command = "ingest"
    force: bool = False
    restate: str | None = None
    waive: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0
