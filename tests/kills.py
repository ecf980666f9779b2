"""The steps that may be killed, the servers that they are killed on, and what there is before and after each."""

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
    """The step that it comes after, its command, and where it is killed; none of these where it only comes after."""

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
"""`session` is ended as by an administrator, the rest is killed: `server` is all of it, `all` the loader too."""
NEED_A_SERVER = {"backend", "postmaster", "server", "all"}
"""What takes down the sessions of everybody else as well."""

SHORT = {
    ("next", "session", "last merge"),
    ("next", "all", "last merge"),
    ("forgotten", "session", "forgotten"),
}
"""What every run of the tests tries; the rest is for long ones."""


def cells(*, own_server: bool) -> list[Any]:
    """Step, victim and point: the matrix. The loader is killed in the next month at all points that there are."""
    return [
        pytest.param(name, victim, point, marks=() if (name, victim, point) in SHORT else pytest.mark.long)
        for name, step in STEPS.items()
        for victim in VICTIMS
        if (victim in NEED_A_SERVER) == own_server
        for point in (POINTS if (name, victim) == ("next", "loader") else step.points)
    ]


@dataclass
class Place:
    """A server, and the command line on it. It may be killed if it has a home of its own, or commands: down and up."""

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
        """What `streamflow ARGUMENTS` prints, run as a process of its own."""
        command = [str(Path(sys.executable).with_name("streamflow")), *map(str, arguments)]
        env = {**os.environ, **self.environment}
        return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout

    @contextlib.contextmanager
    def streamflow(self) -> Iterator[Streamflow]:
        """The command line, and a connection to the server as it is now; one that was killed is started again."""
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
                admin.execute("checkpoint")  # what a copied sequence gives out is in the log only after the next one

    def note(self, step: str) -> Any:
        """What the database holds when a step is done and nothing went wrong; it is kept as a template."""
        if step not in self.states:
            self.before(step)
            with self.streamflow() as streamflow:
                streamflow.ok(*self.command(step))
                self.states[step], self.shown[step] = streamflow.state(), streamflow.latest()
            self.server.keep("streamflow", f"after_{step}")
        return self.states[step]

    def before(self, step: str) -> Any:
        """Make the database what it is before a step; returns what it holds."""
        before = STEPS[step].after
        state = self.note(before) if before else None
        self.copy(f"after_{before}" if before else None)
        return state

    def kill(self, victim: str, loader: Forked, waiting: list[int]) -> None:
        """Kill; `waiting` are the processes of the server that work for the loader."""
        if victim in {"loader", "all"}:
            loader.kill()
        if victim == "session":
            with contextlib.closing(connect(self.server, "postgres")) as admin:
                assert [admin.execute("select pg_terminate_backend(%s::int)", [pid]).fetchone() for pid in waiting]
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
