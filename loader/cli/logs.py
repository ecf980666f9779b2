"""Progress and complaints as one JSON object a line on stderr, where STREAMFLOW_LOG_FORMAT is json."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import threading
import time
from typing import Any

from loader.errors import WrongUsage
from loader.pipeline.progress import Progress


def as_json() -> bool:
    """Whether the setting says so; not where the settings themselves are what is wrong."""
    from loader.settings import load_settings

    try:
        return load_settings().log_format == "json"
    except WrongUsage:
        return os.environ.get("STREAMFLOW_LOG_FORMAT") == "json"


def write(level: str, event: str, message: str, **more: Any) -> None:
    """One line: time, level, event, message, and what else there is to say."""
    time_now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")
    entry = {"time": time_now, "level": level, "event": event, "message": message}
    entry |= {name: value for name, value in more.items() if value is not None}
    sys.stderr.write(json.dumps(entry, default=str, ensure_ascii=False) + "\n")
    sys.stderr.flush()


class JsonLines(Progress):
    """Progress for a log collector: a line when a step begins, and one with its seconds when it ends."""

    def __init__(self) -> None:
        self._month: str | None = None
        self._step: tuple[str, float] | None = None
        self._nodes = 0
        self._counting = threading.Lock()

    def month(self, label: str) -> None:
        """Name the month in every line from now on."""
        self.close()
        self._month = label

    def step(self, name: str) -> None:
        """Say that it begins."""
        self.close()
        self._step, self._nodes = (name, time.perf_counter()), 0
        write("info", "step_begun", name, step=name, month=self._month)

    def files(self, sizes: dict[str, int]) -> None:
        """Say how much is to be copied."""
        size = sum(sizes.values())
        message = f"landing {len(sizes)} files, {size / 1e6:,.1f} MB"
        write("info", "files", message, month=self._month, files=len(sizes), bytes=size)

    def node(self, kind: str) -> None:  # noqa: ARG002
        """Count."""
        with self._counting:
            self._nodes += 1

    def close(self) -> None:
        """Say how long the last step took."""
        if self._step is not None:
            (name, start), self._step = self._step, None
            seconds = round(time.perf_counter() - start, 3)
            message = f"{name}: {seconds:.1f} s"
            nodes = self._nodes or None
            write("info", "step_done", message, step=name, month=self._month, seconds=seconds, dbt_nodes=nodes)

    def tell(self, message: str) -> None:
        """Say it."""
        write("warning", "notice", message, month=self._month)
