"""Runs the command line in a process forked from one that has imported dbt, as importing it takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["dbt.adapters.postgres", "dbt.cli.main", "psycopg", "typer"])


class Forked:
    """A running `streamflow ARGUMENTS`, with the loader in `code` and `folder` as its current folder.

    It has some methods and attributes of `subprocess.Popen`; `stderr` reads what the process writes there.
    """

    def __init__(self, code: Path, folder: Path, environment: Mapping[str, str], arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._said: tuple[str, str] | None = None
        with tempfile.NamedTemporaryFile(delete=False) as out:
            self._out = Path(out.name)
        said, stderr = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_run, args=(code, folder, dict(environment), arguments, self._out, stderr))
        self._process.start()
        stderr.close()
        with said:
            self.stderr = os.fdopen(os.dup(said.fileno()), encoding="utf-8")

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code: negative if a signal killed it, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same as `returncode`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> None:
        """Wait for its end, at most `timeout` seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired([*self._arguments], timeout or 0)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; returns stdout and stderr. After `timeout` seconds, kill it and raise TimeoutExpired."""
        if not self._said:
            with self.stderr, ThreadPoolExecutor(1) as reader:
                said = reader.submit(self.stderr.read)
                try:
                    self.wait(timeout)
                except subprocess.TimeoutExpired:
                    self.kill()
                    raise
            self._said = self._out.read_text(encoding="utf-8"), said.result()
            self._out.unlink()
        return self._said


def run_forked(
    code: Path, folder: Path, environment: Mapping[str, str], arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run `streamflow ARGUMENTS` in a folder, with the loader in `code`; returns its exit code and output."""
    process = Forked(code, folder, environment, arguments)
    out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode or 0, out, err)


def _run(
    code: Path, folder: Path, environment: dict[str, str], arguments: Sequence[str], out: Path, stderr: Connection
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(out, os.O_WRONLY), 1)
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    sys.path.insert(0, str(code))
    sys.argv = ["streamflow", *arguments]
    from loader.cli.program import program

    program()
