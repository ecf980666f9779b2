"""The scenarios of the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests import servers
from tests.bench import floors
from tests.bench.machine import REPOSITORY, Server, Timing, generate, running_server
from tests.bench.systems import command, rivals

Measured = dict[str, list[Any]]
"""Measurements by name. A command's are its seconds, peak memory in MB, and CPU seconds including the server's."""

MILLION, MEDIUM, SMALL, HUGE = 1_000_000, 200_000, 7_043, 10_000_000


def cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def say(message: str) -> None:
    """Report progress on stderr."""
    sys.stderr.write(f"{message}\n")


def _measure(server: Server, name: str, run: Callable[[], Timing]) -> Measured:
    before = server.cpu
    timing = run()
    cpu = round(timing.cpu + server.cpu - before, 2)
    say(f"{name}: {timing.seconds} s, {timing.megabytes} MB, {cpu} s of CPU")
    return {name: [[timing.seconds, timing.megabytes, cpu]]}


def _race(server: Server, data: Path, without: set[str]) -> Measured:
    """Two months with each system, one system after the other on the same server and files."""
    server.new_database("streamflow")
    command(server, "init")  # dbt's first parse of the project is not timed
    measured: Measured = {}
    for name, run in rivals().items():
        if name not in without:
            server.new_database(name)
            for month, word in enumerate(("first", "second")):
                measured |= _measure(server, f"{name} {word}", partial(run, server, data, month))
            if name == "streamflow":
                measured |= _measure(server, "streamflow report", partial(command, server, "report", "001"))
            server.new_database(name)
    return measured


def million(server: Server, folder: Path, without: set[str]) -> Measured:
    """1,000,000 customers: the first and the second month."""
    return _race(server, generate(folder / "million", MILLION, 2), without)


def medium(server: Server, folder: Path, without: set[str]) -> Measured:
    """200,000 customers: the first and the second month."""
    return _race(server, generate(folder / "medium", MEDIUM, 2), without)


def huge(server: Server, folder: Path, without: set[str]) -> Measured:
    """10,000,000 customers: the first and the second month. Takes an hour and 50 GB of disk."""
    return _race(server, generate(folder / "huge", HUGE, 2), without)


def steps(server: Server, folder: Path, _without: set[str]) -> Measured:
    """1,000,000 customers: each step of the second month, and the least that PostgreSQL needs for it."""
    server.new_database("streamflow")
    measured = floors.measure(server, generate(folder / "million", MILLION, 2))
    server.new_database("streamflow")
    for step, [[taken, least]] in measured.items():
        say(f"{step}: {taken} s, at least {least} s")
    return measured


def usage(server: Server, folder: Path, without: set[str]) -> Measured:
    """1,000,000 customers: a month in which nothing but usage changed."""
    return _race(server, generate(folder / "usage", MILLION, 2, "--only-usage-changes"), without)


def growth(server: Server, folder: Path, _without: set[str]) -> Measured:
    """24 months of the same 200,000 customers with changing values: only history grows."""
    return _two_years(server, generate(folder / "growth", MEDIUM, 24, "--join", "0", "--churn", "0"))


def turnover(server: Server, folder: Path, _without: set[str]) -> Measured:
    """The same, with as many customers leaving as joining: by month 24, a third more are known and carried forward."""
    return _two_years(server, generate(folder / "turnover", MEDIUM, 24, "--churn", "0.015"))


def _two_years(server: Server, data: Path) -> Measured:
    """Ingest 24 months in two commands: each month's seconds, and the bytes on disk after the first twelve."""
    server.new_database("streamflow")
    months = []
    for months_asked in ("000..011", "012..023"):
        result = json.loads(command(server, "ingest", months_asked, "--data-dir", str(data), "--json").output)
        months += [outcome["timings"]["total"] for outcome in result]
        if months_asked == "000..011":
            history = "select sum(pg_total_relation_size(relid)) from pg_stat_user_tables where schemaname = 'history'"
            disk = [
                int(server.query("streamflow", query))
                for query in ("select pg_database_size(current_database())", history)
            ]
    server.new_database("streamflow")
    return {"seconds by month": [months], "bytes of database and of history": [disk]}


def small(server: Server, folder: Path, without: set[str]) -> Measured:
    """7,043 customers: two months, then twelve in one command, the last of them again, and `dbt parse` alone."""
    data = generate(folder / "small", SMALL, 12)
    measured = _race(server, data, without)
    for name, *words in (
        ("twelve months", "ingest", "000..011", "--data-dir", str(data)),
        ("again", "ingest", "011", "--data-dir", str(data)),
        ("dbt parse", "dbt", "parse"),
    ):
        measured |= _measure(server, f"streamflow {name}", partial(command, server, *words))
    return measured


def memory(server: Server, folder: Path, _without: set[str]) -> Measured:
    """The loader's memory with files of 10,000,000 rows and of 100,000."""
    measured: Measured = {}
    for users in (100_000, HUGE):
        data = generate(folder / f"memory_{users}", users, 1)
        server.new_database("streamflow")
        environment = {**os.environ, **server.environment("streamflow"), "PYTHONPATH": str(REPOSITORY)}
        result = subprocess.run(
            [sys.executable, "-m", "tests.bench.landing_memory", str(data)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        measured[f"{users}"] = [float(result.stdout)]
    server.new_database("streamflow")
    return measured


def cluster(_server: Server, folder: Path, _without: set[str]) -> Measured:
    """Two months on a cluster, and on one server whose shared_buffers equal those of all nodes together."""
    uri = os.environ.get("BENCH_CITUS_URI")
    if not uri:
        say("BENCH_CITUS_URI names no cluster, so none is measured")
        return {}
    nodes = servers.cluster(uri)
    measured: Measured = {}
    with running_server(folder / "one", f"shared_buffers={_cache(nodes)}kB") as one:
        spread = Server(nodes.port, one.home, nodes.host)
        for users in (MEDIUM, MILLION):
            data = generate(folder / f"cluster_{users}", users, 2)
            for name, server in (("one server", one), ("cluster", spread)):
                nodes.make("streamflow") if server is spread else server.new_database("streamflow")
                command(server, "init")
                for month in ("000", "001"):
                    outcome = json.loads(command(server, "ingest", month, "--data-dir", str(data), "--json").output)
                    seconds = outcome["timings"]["total"]
                    measured[f"{name} {users} {month}"] = [[seconds]]
                    say(f"{name}, {users} customers, month {month}: {seconds} s")
        nodes.drop("streamflow")
    return measured


def _cache(nodes: servers.Server) -> int:
    """The shared_buffers of all nodes together, in kB."""
    size = 0
    for host, port in ((nodes.host, nodes.port), *nodes.workers):
        with contextlib.closing(servers.connect(servers.Server(host, port), "postgres")) as node:
            row = node.execute("select pg_size_bytes(current_setting('shared_buffers')) / 1024").fetchone()
            size += int(row[0]) if row else 0
    return size


QUICK = ("small", "medium")
"""Scenarios that take less than five minutes together."""

ALL: dict[str, Callable[[Server, Path, set[str]], Measured]] = {
    "million": million,
    "medium": medium,
    "steps": steps,
    "usage": usage,
    "growth": growth,
    "turnover": turnover,
    "small": small,
    "memory": memory,
    "cluster": cluster,
    "huge": huge,
}
WITHIN_AN_HOUR = tuple(name for name in ALL if name != "huge")
