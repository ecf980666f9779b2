"""The steps that tests kill, the servers to kill them on, and what the database holds before and after each step."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Streamflow
from tests.forked import Forked
from tests.pauses import POINTS
from tests.servers import Server, connect

NEXT = "--data-dir {months}"


@dataclass(frozen=True)
class Step:
    """The name of the step before it, its command, and the points to kill it at, if it is ever killed."""

    after: str
    command: str
    points: tuple[str, ...] = ()


STEPS = {
    "tables": Step("", "init"),
    "first": Step("tables", f"ingest 000 {NEXT}", ("landing begins", "last history", "keys", "published")),
    "next": Step("first", f"ingest 001 {NEXT}", ("landing", "dbt begins", "last history", "last merge")),
    "restated": Step(
        "next",
        "ingest 001 --data-dir {other} --restate --reason wrong",
        ("landing", "last history", "last merge", "published"),
    ),
    "forgotten": Step("next", "forget {user} --reason asked", ("forgetting", "forgotten", "vacuum")),
    "archived": Step("next", "archive --before 2024-02-29 --to {folder}", ("writing", "last detached", "told")),
    "restored": Step("archived", "archive --restore", ("last attached", "told")),
    **{f"{step}, next": Step(step, f"ingest 002 {NEXT}") for step in ("forgotten", "archived", "restored")},
}

VICTIMS = ("loader", "session", "backend", "postmaster", "server", "all")
"""`session` is terminated as by an administrator, the others are killed: `server` whole, `all` with the loader."""
NEED_A_SERVER = {"backend", "postmaster", "server", "all"}
"""Victims whose end also ends all other sessions of the server."""

SHORT = {
    ("next", "session", "last merge"),
    ("next", "all", "last merge"),
}
"""The cells that every test run tries; the others are for long runs."""

ELSEWHERE = {("forgotten", "loader", "forgotten"), ("forgotten", "loader", "vacuum")}
"""Cells that tests/test_forget.py tries in every test run."""


def cells(*, own_server: bool) -> list[Any]:
    """The matrix of step, victim and point. In step `next`, the loader is killed at every one of POINTS."""
    return [
        pytest.param(name, victim, point, marks=() if (name, victim, point) in SHORT else pytest.mark.long)
        for name, step in STEPS.items()
        for victim in VICTIMS
        if (victim in NEED_A_SERVER) == own_server
        for point in (POINTS if (name, victim) == ("next", "loader") else step.points)
        if (name, victim, point) not in ELSEWHERE
    ]


@dataclass
class Place:
    """A server with the command line on it. It may be killed if it has a `home`, or `commands` to stop and start it."""

    server: Server
    environment: dict[str, str]
    names: dict[str, str | Path]
    home: Path | None = None
    commands: tuple[str, ...] = ()
    states: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)

    def command(self, step: str, **names: str | Path) -> list[str]:
        """The words of a step's command."""
        return [word.format(**{**self.names, **names}) for word in STEPS[step].command.split()]

    def run(self, *arguments: str | Path) -> str:
        """Run `streamflow ARGUMENTS` as a process of its own; returns its stdout."""
        command = [str(Path(sys.executable).with_name("streamflow")), *map(str, arguments)]
        env = {**os.environ, **self.environment}
        return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout

    @contextlib.contextmanager
    def streamflow(self) -> Iterator[Streamflow]:
        """The command line and a new connection; an embedded server that was killed is started again."""
        if self.home:
            self.run("db", "start")
        with contextlib.closing(connect(self.server, "streamflow")) as connection:
            if self.server.workers:
                connection.execute("set citus.enable_unsafe_triggers = on")
            yield Streamflow(self.environment, connection)

    def copy(self, template: str | None) -> None:
        """Make the database a fresh copy of another, or empty."""
        self.server.make("streamflow", template)
        if self.home or self.commands:
            with contextlib.closing(connect(self.server, "postgres")) as admin:
                admin.execute("checkpoint")  # only after it does a copied sequence log its next values

    def note(self, step: str) -> Any:
        """What the database holds after an undisturbed step; the first call runs the step and keeps a template."""
        if step not in self.states:
            self.before(step)
            with self.streamflow() as streamflow:
                streamflow.ok(*self.command(step))
                self.states[step], self.shown[step] = streamflow.state(), streamflow.latest()
            self.server.keep("streamflow", f"after_{step}")
        return self.states[step]

    def before(self, step: str) -> Any:
        """Put the database in its state before a step; returns what it holds."""
        before = STEPS[step].after
        state = self.note(before) if before else None
        self.copy(f"after_{before}" if before else None)
        return state

    def kill(self, victim: str, loader: Forked, waiting: list[int]) -> None:
        """Kill a victim; `waiting` are the pids of the server processes that work for the loader."""
        if victim in {"loader", "all"}:
            loader.kill()
        if victim == "session":
            with contextlib.closing(connect(self.server, "postgres")) as admin:
                ended = admin.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", [waiting])
                assert set(ended.fetchall()) == {(True,)}
        if victim == "backend":
            for pid in waiting:
                psutil.Process(pid).kill()
        if victim == "postmaster":
            self.postmaster.kill()
        if victim in {"server", "all"} and self.commands:
            for command in self.commands:
                subprocess.run(shlex.split(command), check=True, capture_output=True)
        elif victim in {"server", "all"}:
            for process in [self.postmaster, *self.postmaster.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    @property
    def postmaster(self) -> psutil.Process:
        """The server's first process."""
        assert self.home
        return psutil.Process(int((self.home / "pgdata" / "postmaster.pid").read_text().split()[0]))
