"""The program `streamflow`: its streams, its signals, and its exit."""

from __future__ import annotations

import atexit
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from loader.outlet import Outlet

SAYS_WHAT_BECAME_OF_IT = {"ingest", "land", "check", "forget"}
"""Commands whose exit code is about the month or the customer, even if the result could not be written."""

WRITES_THE_PROJECT = {"new", "models", "setup"}
"""Commands whose files a team shares. What others write may have customers' rows, so only their user can read it."""

PATIENCE = 2.0
"""Seconds during which a further signal to end counts as part of the first, as it would stop the cancelling of queries.
A later signal ends the process at once."""


def program() -> None:
    """Run the command line. The process exits without freeing its objects: freeing dbt's takes half a second."""
    out = _open_streams()
    command = _command(sys.argv[1:])
    if command not in WRITES_THE_PROJECT:
        os.umask(os.umask(0) | 0o077)
    signals = _interrupted_by_signals()
    try:
        from loader.cli.main import main  # takes long, so a signal may come

        code = main(signals)
    except KeyboardInterrupt:
        sys.stderr.write("streamflow: interrupted\n")
        code = 128 + signals[0][0]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    if out.lost and code == 0:
        sys.stderr.write(f"streamflow: the result cannot be written: {out.lost.strerror}\n")
        code = 0 if command in SAYS_WHAT_BECAME_OF_IT else 3
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _open_streams() -> Outlet:
    """Replace stdout, which is returned, and stderr by streams that outlive their reader."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # it is closed, and without this the database's socket or a file would get its number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    out, err = Outlet(1, "w", closefd=False), Outlet(2, "w", closefd=False)
    sys.stdout, sys.stderr = _text(out, sys.stdout), _text(err, sys.stderr)
    logging.raiseExceptions = False  # a log that cannot be written is not worth a traceback
    return out


def _interrupted_by_signals() -> list[tuple[int, float]]:
    """The signals to end that have come, each with its time; the first one raises KeyboardInterrupt."""
    come: list[tuple[int, float]] = []

    def end(number: int, _: object) -> None:
        come.append((number, time.monotonic()))
        if len(come) == 1:
            raise KeyboardInterrupt
        if come[-1][1] - come[0][1] > PATIENCE:
            os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a script
            signal.signal(number, end)
    return come


def _command(words: Sequence[str]) -> str | None:
    """The command: the first word that is neither an option nor the folder of --project-dir."""
    pairs = zip(["", *words], words, strict=False)
    return next((word for before, word in pairs if not word.startswith("-") and before != "--project-dir"), None)


def _text(outlet: Outlet, before: Any) -> io.TextIOWrapper:
    """A stream that replaces `before` and takes any text; stderr and terminals get each line at once."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    at_once = outlet.fileno() == 2 or outlet.isatty()
    return io.TextIOWrapper(io.BufferedWriter(outlet), encoding, "backslashreplace", line_buffering=at_once)
