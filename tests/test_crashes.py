"""Killed at any point, by whatever kills: the next ingest of that month ends as an undisturbed one would have."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql

from tests.conftest import REPOSITORY, Streamflow, environment
from tests.pauses import PATIENCE, POINTS, paused, start
from tests.servers import Server, connect
from tests.test_gate import land_only, published


def ends_as_undisturbed(streamflow: Streamflow, months: Path, undisturbed: Any) -> None:
    """Ingest February once more, now that whoever ran is gone, and look."""
    wait_until(streamflow, "select count(*) = 0 from pg_locks where locktype = 'advisory'")
    streamflow.ok("ingest", "001", "--data-dir", months)
    assert streamflow.state() == undisturbed
    assert streamflow("verify").code == 0
    assert streamflow.ok("ingest", "001", "--data-dir", months, "--json").json["state"] == "unchanged"


def wait_until(streamflow: Streamflow, condition: str) -> None:
    """Wait for a session that was killed to be gone: the server notices when the session's statement ends."""
    for _ in range(PATIENCE * 50):
        if streamflow.rows(f"select ({condition}), pg_sleep(0.02)")[0][0]:
            return
    raise AssertionError(condition)


def points(*short: Any, long: Iterable[Any] = ()) -> list[Any]:
    """Where to strike: `short` in every run, the rest in long runs only; all points where none are named for those."""
    rest = long or [point for point in POINTS if point not in short]
    return [*short, *(pytest.param(point, marks=pytest.mark.long) for point in rest)]


@pytest.mark.parametrize("point", points("last history", "published", "verdicts"))
def test_the_loader_is_killed(january: Streamflow, months: Path, undisturbed: Any, point: str) -> None:
    before = january.latest()
    with paused(january, point, "ingest", "001", "--data-dir", months) as run:
        run.process.kill()
        run.process.wait(PATIENCE)
        if point != "verdicts":
            assert january.latest() == before
    ends_as_undisturbed(january, months, undisturbed)


@pytest.mark.parametrize(
    "point", points("last history", "first merge", long=["landing", "first history", "last merge"])
)
def test_the_loader_is_killed_and_another_month_comes(
    january: Streamflow, months: Path, new_database: Callable[..., Streamflow], january_published: str, point: str
) -> None:
    """The next month does not wait: a half-built month is given up, a whole one is finished."""
    with paused(january, point, "ingest", "001", "--data-dir", months) as run:
        run.process.kill()
        run.process.wait(PATIENCE)
    wait_until(january, "select count(*) = 0 from pg_locks where locktype = 'advisory'")
    january.ok("ingest", "002", "--data-dir", months)
    assert january("verify").code == 0
    dates = published(january)
    assert dates[-1] == "2024-03-31"
    assert ("2024-02-29" in dates) == (point in {"first merge", "last merge"}), "whole once its history stands"
    state = january.state()
    undisturbed = new_database(january_published)
    for month in ("001", "002") if len(dates) == 3 else ("002",):
        undisturbed.ok("ingest", month, "--data-dir", months)
    assert undisturbed.state() == state


@pytest.mark.parametrize("point", points("last history", "published", long=["dbt begins", "last merge", "verdicts"]))
def test_interrupted_at_the_keyboard(january: Streamflow, months: Path, undisturbed: Any, point: str) -> None:
    """dbt cancels its queries, and the program ends."""
    with paused(january, point, "ingest", "001", "--data-dir", months) as run:
        run.process.send_signal(signal.SIGINT)
        run.process.wait(PATIENCE)
    assert run.process.returncode == 130
    assert "Traceback" not in run.said[1]
    ends_as_undisturbed(january, months, undisturbed)


@pytest.mark.parametrize("point", points("last merge", long=["gate", "first history"]))
def test_dbt_by_hand_is_killed(january: Streamflow, months: Path, undisturbed: Any, point: str) -> None:
    land_only(january, months / "month_001", 1)
    with paused(january, point, "dbt", "build") as run:
        run.process.kill()
    ends_as_undisturbed(january, months, undisturbed)


@pytest.mark.parametrize("point", points("dbt begins", "last merge", long=["landing", "last history"]))
def test_a_connection_that_is_lost_for_a_moment(
    january: Streamflow, months: Path, undisturbed: Any, point: str
) -> None:
    with paused(january, point, "ingest", "001", "--data-dir", months) as run:
        for session in run.waiting:
            assert january.value("select pg_terminate_backend(%s::int)", session)
    assert run.process.returncode == 0
    assert "beginning again in" in run.said[1]
    assert january.state() == undisturbed
    assert january("verify").code == 0


@dataclass
class Crashing:
    """A server of its own, to be killed, on which January is published, and the command line on it."""

    home: Path
    environment: dict[str, str]

    @contextlib.contextmanager
    def streamflow(self) -> Iterator[Streamflow]:
        """The command line, and a connection to the server as it is now."""
        [uri] = self.run("db", "uri").stdout.splitlines()
        with psycopg.connect(uri, autocommit=True) as connection:
            yield Streamflow(self.environment, connection)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `streamflow ARGUMENTS` as a process of its own."""
        command = [str(Path(sys.executable).with_name("streamflow")), *map(str, arguments)]
        env = {**os.environ, **self.environment}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True)

    @contextlib.contextmanager
    def admin(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to the server's own database."""
        [uri] = self.run("db", "uri").stdout.splitlines()
        with psycopg.connect(uri.replace("/streamflow?", "/postgres?"), autocommit=True) as connection:
            yield connection

    def copy(self, template: str) -> None:
        """Make the database a fresh copy of another."""
        with self.admin() as admin:
            admin.execute("drop database if exists streamflow with (force)")
            admin.execute(sql.SQL("create database streamflow template {}").format(sql.Identifier(template)))
            admin.execute("checkpoint")  # what a copied sequence gives out is in the log only after the next one

    def kill_server(self) -> None:
        """Kill every process of the server at once."""
        postmaster = psutil.Process(int((self.home / "pgdata" / "postmaster.pid").read_text().split()[0]))
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="module")
def crashing_server(
    request: pytest.FixtureRequest, server: Server, months: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crashing]:
    """An embedded server with the database `january`."""
    home = tmp_path_factory.mktemp("crashing")
    variables = environment(server, home / "target", home)
    for name in ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER"):
        del variables[name]
    with contextlib.closing(connect(server, "postgres")) as connection:
        version = str(connection.info.server_version // 10000)
    crashing = Crashing(home, {**variables, "STREAMFLOW_HOME": str(home), "PGSERVER_POSTGRES_VERSION": version})
    crashing.run("ingest", "000", "--data-dir", months)
    with crashing.admin() as admin:
        admin.execute("alter database streamflow rename to january")
    yield crashing
    crashing.run("db", "stop")


@pytest.fixture
def crashing(crashing_server: Crashing) -> Crashing:
    """The same with a fresh copy of it as its database."""
    crashing_server.copy("january")
    return crashing_server


@pytest.mark.parametrize("point", points("last merge", long=["landing", "dbt begins", "last history"]))
@pytest.mark.parametrize("with_loader", [False, True], ids=["server alone", "server and loader"])
def test_the_server_is_killed(
    crashing: Crashing, months: Path, undisturbed: Any, point: str, with_loader: bool
) -> None:
    """An ingest that lives on starts the embedded server again, and begins anew by itself."""
    with (
        crashing.streamflow() as streamflow,
        paused(streamflow, point, "ingest", "001", "--data-dir", months) as run,
    ):
        if with_loader:
            run.process.kill()
        crashing.kill_server()
    assert run.process.returncode == (-9 if with_loader else 0), run.said
    with crashing.streamflow() as streamflow:
        if not with_loader:
            assert streamflow.state() == undisturbed
        ends_as_undisturbed(streamflow, months, undisturbed)


@pytest.fixture
def small_disk(server: Server, january_published: str, tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB that holds the database `streamflow`, a copy of January; yields its folder."""
    if server.workers:
        pytest.skip("the disks of a cluster are somewhere else")
    with contextlib.closing(connect(server, "postgres")) as admin:
        [(directory,)] = admin.execute("select setting from pg_settings where name = 'data_directory'").fetchall()
        data = Path(directory)
        folder = data.parent / f"{data.name}_small"
        folder.mkdir(exist_ok=True)
        owner = data.stat()
        options = f"size=40m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        mounted = subprocess.run(mount, capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("no file system can be mounted here")
        try:
            admin.execute("drop database if exists streamflow with (force)")
            admin.execute(f"create tablespace small location '{folder}'".encode())
            admin.execute(f"create database streamflow template {january_published} tablespace small".encode())
            yield folder
        finally:
            admin.execute("drop database if exists streamflow with (force)")
            admin.execute("drop tablespace if exists small")
            subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kilobytes", points(100, long=[0, 200, 300]))
def test_the_disk_is_full(
    small_disk: Path, server: Server, dbt_target: Path, months: Path, undisturbed: Any, tmp_path: Path, kilobytes: int
) -> None:
    with contextlib.closing(connect(server, "streamflow")) as connection:
        streamflow = Streamflow(environment(server, dbt_target, tmp_path), connection)
        before = streamflow.latest()
        filler = small_disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 1024 * kilobytes))
        result = streamflow("ingest", "001", "--data-dir", months)
        assert result.code == 3, result
        assert "No space left on device" in result.err
        assert "month 001 again" in result.err
        assert "Traceback" not in result.err
        assert streamflow.latest() == before
        filler.unlink()
        ends_as_undisturbed(streamflow, months, undisturbed)


KILLS = 12


@pytest.mark.long
@pytest.mark.parametrize("victim", ["loader", "server", "both"])
def test_killed_at_many_instants(crashing: Crashing, tally: Counter[str], victim: str) -> None:
    """Instants spread evenly over the time that an undisturbed ingest of 7,000 customers takes."""
    arguments = ("--data-dir", REPOSITORY / "seeds_data")
    with crashing.admin() as admin:
        admin.execute("drop database streamflow")
    crashing.run("ingest", "000", *arguments)
    with crashing.admin() as admin:
        admin.execute("drop database if exists seeds")
        admin.execute("alter database streamflow rename to seeds")
    crashing.copy("seeds")
    began = time.perf_counter()
    crashing.run("ingest", "001", *arguments)
    seconds = time.perf_counter() - began
    with crashing.streamflow() as streamflow:
        undisturbed = streamflow.state()

    for number in range(1, KILLS + 1):
        crashing.copy("seeds")
        with crashing.streamflow() as streamflow:
            run = start(streamflow, "ingest", "001", *arguments)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(seconds * number / KILLS)
        if victim != "server":
            run.kill()
        if victim != "loader":
            crashing.kill_server()
        run.communicate(timeout=PATIENCE)
        assert run.returncode in {0, -9}
        tally[f"kills of {victim}"] += 1
        with crashing.streamflow() as streamflow:
            wait_until(streamflow, "select count(*) = 0 from pg_locks where locktype = 'advisory'")
            streamflow.ok("ingest", "001", *arguments)
            assert streamflow.state() == undisturbed, f"killed after {seconds * number / KILLS:.2f} s"
            assert streamflow("verify").code == 0
