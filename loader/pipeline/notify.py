"""Tells the STREAMFLOW_NOTIFY command how a month ended, as JSON without customers' values."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import SecretStr

from loader.delivery import Delivery
from loader.errors import ModelsFailed, NotDelivered, StreamflowError, WrongUsage
from loader.pipeline.outcome import Command, Outcome, Refused
from loader.settings import Settings
from loader.words import counted

PATIENCE = 30
"""Seconds after which the command is ended."""


def tell_of(
    settings: Settings, command: Command, delivery: Delivery, ended: Outcome | Exception, tell: Callable[[str], object]
) -> None:
    """Notify the command of a month that was just published, refused, failed or is late, but not of a failed check.

    Messages of the database and of dbt may contain values, so they stay in the log. If the command fails, `tell` gets
    the reason, and nothing else fails.
    """
    month = f"month {delivery.label}"
    known: dict[str, Any] = {"command": command, "month": delivery.label, "as_of": str(delivery.as_of)}
    code = ended.exit_code if isinstance(ended, StreamflowError) else StreamflowError.exit_code
    if isinstance(ended, Outcome):
        if ended.state != "published" and not ended.failed:
            return
        event, said, known = "published", ended.message, _facts(ended)
        code = ModelsFailed.exit_code if ended.failed else 0
    elif command == "check" or isinstance(ended, WrongUsage):
        return
    elif isinstance(ended, Refused):
        said = f"{month} was refused: {counted(ended.rejects.count, 'problem')}"
        event, known = "refused", {**_facts(ended.outcome), "rejects": ended.rejects.count}
    elif isinstance(ended, NotDelivered):
        event, said = "late", f"{month} has not been delivered yet"
    else:
        event, said = "failed", f"{month} was not ingested: {type(ended).__name__}; the run's own output says why"
    word = {"event": event, **known, "exit_code": code, "message": said}
    if settings.notify and (failure := _send(settings.notify, word)):
        tell(f"the command of STREAMFLOW_NOTIFY {failure}")


def _facts(outcome: Outcome) -> dict[str, Any]:
    """The facts about an attempt, in names and numbers only."""
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
        "models_failed": [f"{node.kind} {node.name}" for node in outcome.failed],
        "seconds": outcome.timings["total"],
    }


def _send(command: SecretStr, word: Mapping[str, Any]) -> str | None:
    """Run the command, without passwords in its environment; return how it failed.

    The reason omits the command and its output, which may hold secrets.
    """
    environment = {name: value for name, value in os.environ.items() if not name.endswith("PASSWORD")}
    try:
        with subprocess.Popen(
            shlex.split(command.get_secret_value()),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env=environment,
        ) as started:  # fmt: skip
            try:
                started.communicate(json.dumps(word).encode(), timeout=PATIENCE)
            except BaseException:
                os.killpg(started.pid, signal.SIGKILL)  # with all that it has started
                raise
    except subprocess.TimeoutExpired:
        return f"took more than {PATIENCE} s and was ended"
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    except (ValueError, IndexError):
        return "is not a command: it is blank, or a quote in it is not closed"
    if started.returncode:
        return f"ended with exit code {started.returncode}: the notification may not have been delivered"
    return None
