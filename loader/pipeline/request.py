"""What a caller asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Command = Literal["ingest", "land", "check"]


@dataclass(frozen=True)
class Request:
    """What is to be done with a month's files.

    `force` audits and builds again even if nothing is new; `restate` is the reason for replacing a published month by
    other rows; `waive` has the audits that only warn, each with the reason; `wait` is how many seconds to wait for a
    month that is not there yet.
    """

    command: Command = "ingest"
    force: bool = False
    restate: str | None = None
    waive: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0
