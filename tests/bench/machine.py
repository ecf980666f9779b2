"""The benchmark's own server, and the timing of whole commands from outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from loader.database import server

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Timing:
    """One command: seconds by the clock, peak memory of its largest process in MB, CPU seconds, and what it printed."""

    seconds: float
    megabytes: float
    cpu: float
    output: str


@dataclass(frozen=True)
class Server:
    """A PostgreSQL on a TCP port, which the peers need, or the coordinator of a cluster."""

    port: int
    home: Path
    host: str = "127.0.0.1"

    def uri(self, database: str, scheme: str = "postgresql", user: str = "postgres") -> str:
        """The URI of a database."""
        return f"{scheme}://{user}@{self.host}:{self.port}/{database}"

    def query(self, database: str, text: str) -> Any:
        """The first value of a query."""
        with psycopg.connect(self.uri(database), autocommit=True) as connection:
            row = connection.execute(text.encode()).fetchone()
            return row[0] if row else None

    def new_database(self, name: str) -> None:
        """Replace a database by an empty one, and run a checkpoint so that the server is at rest."""
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            connection.execute("checkpoint")

    @property
    def cpu(self) -> float:
        """The CPU seconds that the server has used since it was started, including ended sessions."""
        pid = int((self.home / "pgdata" / "postmaster.pid").read_text().split()[0])
        postmaster = psutil.Process(pid)
        used = 0.0
        for process in postmaster.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended: the postmaster's times include its own
                used += sum(process.cpu_times()[:2])
        return float(used + sum(postmaster.cpu_times()[:4]))

    def environment(self, database: str) -> dict[str, str]:
        """Settings for streamflow. The change report is off: it is timed separately, as no other system has one."""
        return {
            "POSTGRES_HOST": self.host,
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_USER": "postgres",
            "POSTGRES_DB": database,
            "STREAMFLOW_HOME": str(self.home),
            "STREAMFLOW_REPORT": "false",
        }


@contextlib.contextmanager
def running_server(folder: Path, *settings: str) -> Iterator[Server]:
    """Start a server in a folder, with the default configuration and `settings`; stop and delete it afterwards."""
    home = folder / "home"
    server.start(home)
    server.stop(home)
    data = home / "pgdata"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = " ".join([f"-h 127.0.0.1 -p {port} -k {data}", *(f"-c {setting}" for setting in settings)])
    _pg_ctl(data, "start", "-l", str(data / "bench.log"), "-o", options)
    try:
        yield Server(port, home)
    finally:
        _pg_ctl(data, "stop", "-m", "fast")
        shutil.rmtree(home, ignore_errors=True)


def _pg_ctl(data: Path, *arguments: str) -> None:
    user = server.SYSTEM_USER if os.geteuid() == 0 else None
    subprocess.run(
        [server.programs() / "pg_ctl", "-D", data, "-w", *arguments], check=True, stdout=subprocess.DEVNULL, user=user
    )


def timed(command: list[str], environment: Mapping[str, str] | None = None) -> Timing:
    """Run a command to its end.

    Raises:
        RuntimeError: the exit code is not 0; the message has the output.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    cpu = usage.ru_utime + usage.ru_stime
    return Timing(round(seconds, 2), round(usage.ru_maxrss / 1024, 1), round(cpu, 2), output)


def generate(folder: Path, users: int, months: int, *options: str) -> Path:
    """Make months with the repository's generator, unless the folder has them. Returns the folder."""
    if not (folder / f"month_{months - 1:03d}").is_dir():
        arguments = ["--out", str(folder), "--users", str(users), "--months", str(months), *options]
        timed([sys.executable, str(REPOSITORY / "seeds_data" / "generate.py"), *arguments])
    return folder
