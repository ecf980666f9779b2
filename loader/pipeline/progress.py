"""Reports the progress of a run to the logger "streamflow", which is silent unless it has a handler."""

from __future__ import annotations

import logging
import time

from loader.words import counted

log = logging.getLogger("streamflow")
log.addHandler(logging.NullHandler())


class Progress:
    """Gets steps and dbt nodes as they pass, and logs each step with its seconds. Several threads call it."""

    def __init__(self) -> None:
        self._month: str | None = None
        self._step: str | None = None
        self._began = 0.0
        self._nodes: list[str] = []

    def month(self, label: str) -> None:
        """Name the month that all following messages are about, until the next call."""
        self.close()
        self._month = label

    def step(self, name: str) -> None:
        """Begin a step, and end the one before."""
        self.close()
        self._step, self._began, self._nodes = name, time.perf_counter(), []
        self._log(logging.DEBUG, "step_begun", name, step=name)

    def files(self, count: int, size: int) -> None:
        """Log how many files will be copied, and their total size in bytes."""
        message = f"landing {counted(count, 'file')}, {size / 1e6:,.1f} MB"
        self._log(logging.INFO, "files", message, files=count, bytes=size)

    def node(self, kind: str) -> None:
        """Count an audit (kind `test`) or a table (kind `model`) that is done."""
        self._nodes.append(kind)

    def tell(self, message: str) -> None:
        """Log something that the person at the terminal should know."""
        self._log(logging.WARNING, "notice", message)

    def close(self) -> None:
        """End the current step, if there is one."""
        name, self._step = self._step, None
        if name is not None:
            seconds, count = round(time.perf_counter() - self._began, 3), len(self._nodes)
            message = f"{name}: {seconds:.1f} s" + (f", {counted(count, 'dbt node')}" if count else "")
            self._log(logging.INFO, "step_done", message, step=name, seconds=seconds, dbt_nodes=count or None)

    def _log(self, level: int, event: str, message: str, **fields: object) -> None:
        log.log(level, message, extra={"fields": {"event": event, "month": self._month, **fields}})
