"""How a month ended, told to the command of STREAMFLOW_NOTIFY as JSON, without customers' values."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from loader.delivery import Delivery
from loader.errors import ModelsFailed, NotDelivered, StreamflowError, WrongUsage
from loader.pipeline.outcome import Outcome, Refused
from loader.pipeline.request import Command
from loader.settings import Settings
from loader.words import counted

PATIENCE = 30
"""Seconds that the command is given."""

Told = Callable[[str], object]


def of_outcome(settings: Settings, outcome: Outcome, tell: Told) -> None:
    """Have the command know of a month that was published now; of nothing else that ends well.

    `tell` is told where that fails, which fails nothing else.
    """
    if outcome.state == "published":
        code = ModelsFailed.exit_code if outcome.failed else 0
        _send(settings, {"event": "published", **_facts(outcome), "exit_code": code, "message": outcome.message}, tell)


def of_failure(settings: Settings, command: Command, delivery: Delivery, error: Exception, tell: Told) -> None:
    """Have the command know of a month that was refused, failed or is late; not of a check, nor of wrong usage.

    What databases and dbt complain of may hold values, so it stays in the log.
    """
    if command == "check" or isinstance(error, WrongUsage):
        return
    month = f"month {delivery.label}"
    known: dict[str, Any] = {"command": command, "month": delivery.label, "as_of": str(delivery.as_of)}
    if isinstance(error, Refused):
        said = f"{month} was refused: {counted(error.rejects.count, 'problem')}; nothing was changed"
        event, known = "refused", {**_facts(error.outcome), "rejects": error.rejects.count}
    elif isinstance(error, NotDelivered):
        event, said = "late", f"{month} has not been delivered yet"
    else:
        event, said = "failed", f"{month} was not ingested: {type(error).__name__}; the run's own output says why"
    code = error.exit_code if isinstance(error, StreamflowError) else StreamflowError.exit_code
    _send(settings, {"event": event, **known, "exit_code": code, "message": said}, tell)


def _facts(outcome: Outcome) -> dict[str, Any]:
    """What is known of an attempt, in names and numbers."""
    verdicts = {name: [audit.audit_name for audit in outcome.audits_that(name)] for name in ("fail", "warn")}
    return {
        "command": outcome.command,
        "month": outcome.month,
        "as_of": str(outcome.as_of),
        "state": outcome.state,
        "counts": [asdict(count) for count in outcome.counts],
        "audits_failed": verdicts["fail"],
        "audits_warned": verdicts["warn"],
        "audits_waived": [waiver.audit_name for waiver in outcome.waivers],
        "models_failed": [node.name for node in outcome.failed],
        "seconds": outcome.timings["total"],
    }


def _send(settings: Settings, word: Mapping[str, Any], tell: Told) -> None:
    """Run the command. It may have a secret in it: nothing of it is told, and nothing that it says itself."""
    if settings.notify is None:
        return
    try:
        ended = subprocess.run(
            shlex.split(settings.notify.get_secret_value()),
            input=json.dumps(word).encode(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE,
            start_new_session=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        tell(f"the command of STREAMFLOW_NOTIFY took more than {PATIENCE} s and was ended")
    except OSError as error:
        tell(f"the command of STREAMFLOW_NOTIFY cannot be started: {error.strerror}")
    except (ValueError, IndexError):
        tell("STREAMFLOW_NOTIFY is no command: it is blank, or a quote in it is left open")
    else:
        if ended.returncode:
            tell(f"the command of STREAMFLOW_NOTIFY ended with {ended.returncode}: nobody may know how the month ended")
