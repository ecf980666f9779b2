"""dbt in a process of its own: it is imported on one processor while the other reads files.

The process is forked by the program before it has imported anything or begun a thread. It is told to parse the project
and to run it, answers with each node that is done and with how it ended, and ends when its program has.
"""

from __future__ import annotations

import atexit
import gc
import os
import queue
import signal
import threading
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from loader.pipeline.dbt import DbtRun, NodeDone

_worker: Worker | None = None


def start() -> None:
    """Fork the process; once, before anything else is done."""
    global _worker  # noqa: PLW0603
    _worker = Worker()


def started() -> Worker | None:
    """The process, where the program has one."""
    return _worker


class Worker:
    """The program's end of it: a `Place` where dbt runs."""

    def __init__(self) -> None:
        forking = get_context("fork")
        self._connection, theirs = forking.Pipe()
        self._process = forking.Process(target=_serve, args=(theirs, self._connection), name="dbt", daemon=True)
        self._process.start()
        theirs.close()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()

    def parse(self, variables: dict[str, str]) -> None:
        """As of `Place`."""
        self._tell("parse", variables)

    def run(self, arguments: Sequence[str], done: NodeDone, lock_holder: int, logs: Path) -> DbtRun:
        """As of `Place`. An interrupt is passed on, and dbt's answer awaited, so that it can cancel its queries.

        Raises:
            SurroundingsFailed: the process has ended.
        """
        self._tell("run", (list(arguments), lock_holder, logs))
        try:
            return self._answer(done)
        except KeyboardInterrupt:
            if self._process.pid and self._process.is_alive():
                os.kill(self._process.pid, signal.SIGINT)
                self._answer(done)
            raise

    def _tell(self, what: str, value: Any) -> None:
        try:
            self._connection.send((what, value))
        except OSError:
            raise self._gone() from None

    def _answer(self, done: NodeDone) -> DbtRun:
        from loader.pipeline.dbt import DbtRun

        while True:
            try:
                answer = self._connection.recv()
            except (EOFError, OSError):
                raise self._gone() from None
            if isinstance(answer, DbtRun):
                return answer
            if isinstance(answer, BaseException):
                raise answer
            done(answer)

    def _gone(self) -> Exception:
        from loader.errors import SurroundingsFailed

        self._process.join()
        return SurroundingsFailed(
            f"dbt's process ended by itself (exit code {self._process.exitcode}): nothing is half published. "
            "Ingest the month again; if that happens again, look whether the machine runs out of memory."
        )


def _serve(connection: Connection, programs_end: Connection) -> None:
    """Import dbt, and then do what the program asks for, until it is gone."""
    programs_end.close()
    os.setsid()  # Ctrl-C at the terminal is the program's; it passes on what is to be cancelled
    os.dup2(2, 1)  # stdout is for results
    gc.disable()
    requests: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests), name="listener", daemon=True).start()

    from loader.pipeline.dbt import Here, import_dbt

    import_dbt()
    dbt = Here()
    while True:
        what, value = requests.get()
        if what == "parse":
            dbt.parse(value)
            continue
        arguments, lock_holder, logs = value
        try:
            connection.send(dbt.run(arguments, connection.send, lock_holder, logs))
        except (Exception, KeyboardInterrupt) as error:
            connection.send(error)


def _listen(connection: Connection, requests: queue.SimpleQueue[tuple[str, Any]]) -> None:
    """Pass on what the program asks for, and end the process as soon as the program has ended, however it did."""
    while True:
        try:
            requests.put(connection.recv())
        except (EOFError, OSError):
            atexit._run_exitfuncs()  # gives back the semaphores that dbt has made
            os._exit(0)
