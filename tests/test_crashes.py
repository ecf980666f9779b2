"""Whatever is killed, and at whatever point: the same command, run again, ends as an undisturbed run would have."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import REPOSITORY, Streamflow, environment
from tests.files import copy_month, set_value, value_at
from tests.kills import STEPS, Place, cells
from tests.pauses import PATIENCE, POINTS, paused, start
from tests.servers import Server, connect
from tests.test_gate import published


def ends_as_undisturbed(streamflow: Streamflow, months: Path, undisturbed: Any) -> None:
    """Ingest February again once the killed run is gone, and compare with an undisturbed run."""
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
    """Points to strike at: `short` in every test run, `long` (by default all others of POINTS) in long runs only."""
    rest = long or [point for point in POINTS if point not in short]
    return [*short, *(pytest.param(point, marks=pytest.mark.long) for point in rest)]


@pytest.mark.parametrize(
    "point", points("last history", "first merge", long=["landing", "first history", "last merge"])
)
@pytest.mark.long
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


@pytest.mark.parametrize("point", points("last history", long=["verdicts", "dbt begins", "last merge", "published"]))
def test_interrupted_at_the_keyboard(january: Streamflow, months: Path, undisturbed: Any, point: str) -> None:
    """dbt cancels its queries, and the program ends."""
    with paused(january, point, "ingest", "001", "--data-dir", months) as run:
        run.process.send_signal(signal.SIGINT)
        run.process.wait(PATIENCE)
    assert run.process.returncode == 130
    assert "Traceback" not in run.said[1]
    ends_as_undisturbed(january, months, undisturbed)


def test_the_end_of_somebody_elses_session_is_no_lost_connection(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """A refused month would land again and again, and end with 3 and without its rejects."""
    set_value(copy_month(months, "001", tmp_path) / "usage_agg_30d.csv", 3, "watch_hours_30d", "-1")
    info = january.connection.info
    with contextlib.closing(connect(Server(info.host, info.port), info.dbname)) as others:
        pid = others.info.backend_pid
        with paused(january, "verdicts", "ingest", "001", "--data-dir", tmp_path) as run:
            killed = "(select sessions_killed from pg_stat_database where datname = current_database())"
            before = january.value(f"select {killed}")
            assert january.value("select pg_terminate_backend(%s::int)", pid)
            wait_until(january, f"{killed} > {before}")
    assert run.process.returncode == 1, run.said
    assert "beginning again" not in run.said[1]
    assert "month_001.csv" in run.said[1]


@pytest.fixture(scope="module")
def names(months: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | Path]:
    """Values for the placeholders in the commands of the steps."""
    other = tmp_path_factory.mktemp("other")
    set_value(copy_month(months, "001", other) / "labels.csv", 3, "churn_label", "")
    user = value_at(months / "month_000" / "users.csv", 3, "user_id")
    return {"months": months, "other": other, "user": user}


@pytest.fixture(scope="module")
def place(
    server: Server, dbt_target: Path, names: dict[str, str | Path], tmp_path_factory: pytest.TempPathFactory
) -> Place:
    """The server that all tests share, which is never killed."""
    home = tmp_path_factory.mktemp("kills")
    return Place(server, environment(server, dbt_target, home), {**names, "folder": home / "archive"})


@pytest.fixture(scope="module")
def own_place(
    server: Server, names: dict[str, str | Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """An embedded server that may be killed, or a cluster with the commands that kill and start its coordinator."""
    home = tmp_path_factory.mktemp("crashing")
    if server.workers:
        commands = [os.environ.get(f"STREAMFLOW_TEST_CITUS_COORDINATOR_{way}") for way in ("DOWN", "UP")]
        if not all(commands):
            pytest.skip("STREAMFLOW_TEST_CITUS_COORDINATOR_DOWN and _UP name no commands that kill it and start it")
        variables = environment(server, home / "target", home)
        yield Place(server, variables, {**names, "folder": home / "archive"}, commands=tuple(map(str, commands)))
        return
    with contextlib.closing(connect(server, "postgres")) as connection:
        version = str(connection.info.server_version // 10000)
    variables = environment(server, home / "target", home)
    for name in ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER"):
        del variables[name]
    variables |= {"STREAMFLOW_HOME": str(home), "PGSERVER_POSTGRES_VERSION": version}
    place = Place(server, variables, {**names, "folder": home / "archive"}, home)
    place.run("db", "start")
    uri = conninfo_to_dict(place.run("db", "uri").strip())
    place.server = Server(str(uri["host"]), int(uri.get("port") or 5432))
    yield place
    place.run("db", "stop")


def killed(place: Place, step: str, victim: str, point: str, folder: Path) -> None:
    """A killed step leaves a sound state, and its command, run again, ends as an undisturbed step would have."""
    undisturbed, before, command = place.note(step), place.before(step), place.command(step, folder=folder)
    is_ingest, takes_loader = command[0] == "ingest", victim in {"loader", "all"}
    with place.streamflow() as streamflow, paused(streamflow, point, *command) as run:
        place.kill(victim, run.process, run.waiting)
        if takes_loader:
            run.process.wait(PATIENCE)
    assert "Traceback" not in run.said[1]
    assert takes_loader or not is_ingest or "beginning again in" in run.said[1]
    assert run.process.returncode in ({-signal.SIGKILL} if takes_loader else {0} if is_ingest else {0, 3}), run.said
    with place.streamflow() as streamflow:
        wait_until(streamflow, "select count(*) = 0 from pg_locks where locktype = 'advisory'")
        left = streamflow.state()
        # a month of which production is half restated is not shown, but the one before it
        is_half_restated = step == "restated" and point in {"last merge", "published"}
        whole = (STEPS[step].after, step, *(["first"] if is_half_restated else []))
        assert streamflow.latest() in [place.shown[name] for name in whole], "half a month was shown"
        assert is_ingest or left in (before, undisturbed), "half of it was done"
        assert run.process.returncode or left == undisturbed, "it did not do what it says"
        streamflow.ok("verify")
        streamflow.ok(*command)
        assert streamflow.state() == undisturbed
        streamflow.ok("verify")
        streamflow.ok(*command)
        assert streamflow.state() == undisturbed
    assert {path.suffix for path in folder.glob("*")} <= {".parquet"}, "something half written lies about"
    assert not [*folder.glob(".*")], "something half written lies about"


@pytest.mark.parametrize(("step", "victim", "point"), cells(own_server=False))
def test_killed(place: Place, step: str, victim: str, point: str, tmp_path: Path) -> None:
    killed(place, step, victim, point, tmp_path / "archive")


@pytest.mark.long
@pytest.mark.parametrize(("step", "victim", "point"), cells(own_server=True))
def test_killed_with_the_server(own_place: Place, step: str, victim: str, point: str, tmp_path: Path) -> None:
    if own_place.commands and victim in {"backend", "postmaster"}:
        pytest.skip("a command kills all processes of a node")
    killed(own_place, step, victim, point, tmp_path / "archive")


BY_HAND = {
    "first": ["keys"],
    "next": ["gate", "first history", "last merge"],
    "restated": ["last history", "published"],
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "point"), [(step, point) for step, points_of in BY_HAND.items() for point in points_of]
)
def test_dbt_by_hand_is_killed(place: Place, step: str, point: str) -> None:
    undisturbed, _, command = place.note(step), place.before(step), place.command(step)
    with place.streamflow() as streamflow:
        streamflow.ok("land", *command[1:])
        killed_dbt(streamflow, point)
        streamflow.ok(*command)
        assert streamflow.state() == undisturbed
        streamflow.ok("verify")


@pytest.mark.parametrize("step", points("forgotten", long=["archived", "restored"]))
@pytest.mark.long
def test_after_dbt_by_hand_was_killed(place: Place, step: str, tmp_path: Path) -> None:
    """With a month half built, `forget` and `archive --restore` work; archiving is refused until it is finished."""
    undisturbed, _ = place.note(f"{step}, next"), place.before(step)
    command, following = place.command(step, folder=tmp_path), place.command(f"{step}, next")
    with place.streamflow() as streamflow:
        streamflow.ok("land", *following[1:])
        killed_dbt(streamflow, "last history")
        assert streamflow(*command).code == (2 if step == "archived" else 0)
        streamflow.ok("verify")
        streamflow.ok(*following)
        streamflow.ok(*command)
        assert streamflow.state() == undisturbed
        streamflow.ok("verify")


def killed_dbt(streamflow: Streamflow, point: str) -> None:
    """Run `dbt build` by hand up to a point and kill it there."""
    with paused(streamflow, point, "dbt", "build") as run:
        run.process.kill()
    wait_until(streamflow, "select count(*) = 0 from pg_locks where locktype = 'advisory'")


KILLS = 12


@pytest.mark.long
@pytest.mark.parametrize("victim", ["loader", "server", "all"])
def test_killed_at_many_instants(own_place: Place, tally: Counter[str], victim: str) -> None:
    """Instants spread evenly over the time that an undisturbed ingest of 7,000 customers takes."""
    arguments = ("--data-dir", REPOSITORY / "seeds_data")
    own_place.copy(None)
    own_place.run("ingest", "000", *arguments)
    own_place.server.keep("streamflow", "seeds")
    own_place.copy("seeds")
    began = time.perf_counter()
    own_place.run("ingest", "001", *arguments)
    seconds = time.perf_counter() - began
    with own_place.streamflow() as streamflow:
        undisturbed = streamflow.state()

    for number in range(1, KILLS + 1):
        own_place.copy("seeds")
        with own_place.streamflow() as streamflow:
            run = start(streamflow, "ingest", "001", *arguments)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(seconds * number / KILLS)
        own_place.kill(victim, run, [])
        run.communicate(timeout=PATIENCE)
        assert run.returncode in {0, -9}
        tally[f"kills of {victim}"] += 1
        with own_place.streamflow() as streamflow:
            wait_until(streamflow, "select count(*) = 0 from pg_locks where locktype = 'advisory'")
            streamflow.ok("ingest", "001", *arguments)
            assert streamflow.state() == undisturbed, f"killed after {seconds * number / KILLS:.2f} s"
            assert streamflow("verify").code == 0
