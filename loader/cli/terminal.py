"""Results on stdout, as text or as JSON; progress and complaints on stderr, as text or JSON lines."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from loader.errors import WrongUsage
from loader.pipeline.progress import Progress, log
from loader.settings import load_settings
from loader.words import counted, plain, printable

PIPE_WIDTH = 1000
"""Columns of a pipe, wide enough that no table is folded."""

Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]

out = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(markup=False, highlight=False, stderr=True)


def show(as_json: bool, result: Any, *lines: RenderableType) -> None:
    """Show the result of a command: as one JSON document, or as lines and tables for a person.

    Lines are not wrapped, so that a command or a path in them can be copied from the terminal; tables are, and so is
    a Text with an `overflow`.
    """
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2, default=_plain) + "\n")
        return
    for line in lines:
        shown = printable(line, keep="\n") if isinstance(line, str) else line
        folded = isinstance(line, Table) or (isinstance(line, Text) and line.overflow is not None)
        out.print(shown, soft_wrap=not folded)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else plain(value)


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without borders; numbers are right-aligned, with commas between thousands."""
    made, rows = Table(box=None, pad_edge=False, header_style="bold"), list(rows)
    for column, name in enumerate(names):
        numbers = any(isinstance(row[column], int) for row in rows)
        made.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        cells = (f"{cell:,}" if isinstance(cell, int) else cell for cell in row)
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in cells))
    return made


def complain(message: str, lines: Sequence[str] | None = None, **fields: Any) -> None:
    """Log an error: one sentence, and its details in `lines` below it. `fields` go into the JSON log only."""
    log.error(message, extra={"fields": {"event": "error", **fields}, "lines": lines})


def log_to_stderr(*, quiet: bool) -> None:
    """Write the log to stderr; `quiet` keeps only warnings and errors, unless the log is JSON."""
    handler: logging.Handler = _Person()
    if logs_json():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JsonLine())
    log.handlers = [handler]
    log.propagate = False  # dbt gives the root logger a handler of its own
    log.setLevel(logging.DEBUG if logs_json() else logging.WARNING if quiet else logging.INFO)


def logs_json() -> bool:
    """Whether STREAMFLOW_LOG_FORMAT asks for JSON; it counts even if the settings are invalid."""
    try:
        return load_settings().log_format == "json"
    except WrongUsage:
        return os.environ.get("STREAMFLOW_LOG_FORMAT") == "json"


class _JsonLine(logging.Formatter):
    """One JSON object per record: time, level, event, message, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        time = dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(timespec="milliseconds")
        entry = {"time": time, "level": record.levelname.lower(), "event": "notice", "message": record.getMessage()}
        entry |= {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
        return json.dumps(entry, default=str)


class _Person(logging.Handler):
    """Text for a person: a complaint follows the program's name, or is bold if it has lines below it."""

    def emit(self, record: logging.LogRecord) -> None:
        message, lines = printable(record.getMessage(), keep="\n\t"), getattr(record, "lines", None)
        if lines is not None:
            lines = [printable(line, keep="\n") for line in lines]
            err.print(Text(message, style="bold red"), *lines, sep="\n", soft_wrap=True)
        elif record.levelno >= logging.WARNING:
            err.print(Text.assemble(("streamflow: ", "bold red"), message), soft_wrap=True)
        else:
            err.print(message, soft_wrap=True)


def progress(*, quiet: bool) -> Progress:
    """Progress as a line that changes on a terminal, else in the log."""
    return Progress() if quiet or logs_json() or not sys.stderr.isatty() else Line()


class Line(Progress):
    """Progress on a terminal: one line that says what is being done, and how many tests and models are."""

    def __init__(self) -> None:
        super().__init__()
        self._line = err.status("")

    def step(self, name: str) -> None:
        """Show the step's name; how long it takes is unknown."""
        self._nodes = []
        self._line.update(name)
        self._line.start()

    def files(self, count: int, size: int) -> None:
        """Show how much there is to copy."""
        self._line.update(f"landing {counted(count, 'file')}, {size / 1e6:,.1f} MB")

    def node(self, kind: str) -> None:
        """Show how many tests and models are done."""
        super().node(kind)
        self._line.update(" and ".join(counted(self._nodes.count(kind), kind) for kind in ("test", "model")) + " done")

    def close(self) -> None:
        """Remove the line."""
        self._line.stop()
