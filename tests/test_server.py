"""The embedded server: one for all commands, started on demand, left up."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from loader.database import open_database, processes, retries, server
from loader.errors import SurroundingsFailed
from loader.settings import Settings
from tests.conftest import EMBEDDED, Streamflow
from tests.files import copy_month, set_value


class Embedded:
    """The command line on an embedded server of its own, each command a process of its own."""

    def __init__(self, home: Path, server: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "STREAMFLOW_"))}
        self.environment = {
            **kept,
            "STREAMFLOW_HOME": str(home),
            "PGSERVER_POSTGRES_VERSION": server.removeprefix("pg"),
            "DBT_TARGET_PATH": str(home / "target"),
        }

    def __call__(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `streamflow ARGUMENTS`."""
        command = [str(Path(sys.executable).with_name("streamflow")), *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, (command, done.returncode, done.stdout, done.stderr)
        return done


@pytest.fixture(params=EMBEDDED)
def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Embedded]:
    """An embedded server's command line; the server is stopped afterwards."""
    command = Embedded(tmp_path / "home", request.param)
    yield command
    command("db", "stop")


@pytest.fixture(scope="module", params=EMBEDDED)
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A version, and a home to copy, in which a server of that version has run and was stopped."""
    home = tmp_path_factory.mktemp("begun") / "home"
    command = Embedded(home, request.param)
    command("db", "start")
    command("db", "stop")
    return request.param, home


@pytest.fixture
def stopped(begun: tuple[str, Path], tmp_path: Path) -> Iterator[Embedded]:
    """Like `embedded`, in a copy of a home in which a server has run: saves the second or two of the first start."""
    version, home = begun
    subprocess.run(["cp", "-a", home, tmp_path / "home"], check=True)
    command = Embedded(tmp_path / "home", version)
    yield command
    command("db", "stop")


def test_uri_prints_one_line_and_leaves_the_server_up(embedded: Embedded, request: pytest.FixtureRequest) -> None:
    result = embedded("db", "uri")
    [uri] = result.stdout.splitlines()
    assert result.stderr == ""
    with psycopg.connect(uri) as connection:
        assert str(connection.info.server_version).startswith(request.node.callspec.id.removeprefix("pg"))
        assert connection.execute("select distinct datcollate from pg_database").fetchall() == [("C",)]
    assert embedded("db", "uri").stdout.strip() == uri


def test_start_status_stop(embedded: Embedded) -> None:
    down = embedded("db", "status", check=False)
    assert (down.returncode, down.stdout) == (3, "embedded: not running: streamflow db start\n")
    assert embedded("db", "start").stdout.startswith("running\npostgresql://")
    assert "embedded: PostgreSQL" in embedded("db", "status").stdout
    embedded.environment["POSTGRES_DB"] = "typo"
    for look in (("db", "status"), ("doctor",)):
        ended = embedded(*look, check=False)
        assert (ended.returncode, 'database "typo" does not exist' in ended.stdout + ended.stderr) == (3, True), ended
    del embedded.environment["POSTGRES_DB"]
    assert "typo" not in embedded("db", "psql", "-At", "-c", "select datname from pg_database").stdout
    home = Path(embedded.environment["STREAMFLOW_HOME"])
    pid_file = home / "pgdata" / "postmaster.pid"
    said = pid_file.read_text()
    assert server.socket_directory(home) is not None
    pid_file.write_text(said.replace("ready   ", "stopping"))
    assert server.socket_directory(home) is None, "who comes meanwhile waits, and starts it again"
    pid_file.write_text(said)
    assert embedded("db", "stop").stdout == "stopped\n"
    assert embedded("db", "stop").stdout == "it was not running\n"


def test_ingest_starts_it_and_psql_opens_it(embedded: Embedded, months: Path) -> None:
    ingested = embedded("ingest", "000", "--data-dir", months)
    assert "month 000 published" in ingested.stdout
    count = embedded("db", "psql", "-At", "-c", "select count(*) from users").stdout
    assert count == "60\n"
    embedded("db", "stop")
    again = embedded("ingest", "000", "--data-dir", months)
    assert "nothing to do" in again.stdout


@pytest.mark.long
def test_a_month_is_landed_there_and_built_by_dbt(embedded: Embedded, months: Path) -> None:
    embedded("ingest", "000", "--data-dir", months)
    assert "`streamflow dbt build` does the rest" in embedded("land", "001", "--data-dir", months).stdout
    embedded("dbt", "build", "--quiet")
    assert "001    2024-02-29  published" in embedded("status").stdout


def test_nothing_new_starts_no_dbt(january: Streamflow, months: Path) -> None:
    """Nor does it import the modules that explain why a month is refused."""
    program = (
        "import sys; sys.argv = ['streamflow', 'ingest', '000', '--data-dir', sys.argv[1]]\n"
        "from loader.cli.main import main\n"
        "main()\n"
        "needless = {'dbt.cli.main', 'loader.refusals.problems'}\n"
        "sys.exit(bool(needless & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program, str(months)]
    environment = {**os.environ, **january.environment}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "nothing to do" in result.stdout


def test_a_pid_file_left_behind_is_no_server(stopped: Embedded) -> None:
    uri = stopped("db", "uri").stdout.strip()
    pid_file = Path(stopped.environment["STREAMFLOW_HOME"]) / "pgdata" / "postmaster.pid"
    left_behind = [str(os.getpid()), *pid_file.read_text().splitlines()[1:]]
    stopped("db", "stop")
    pid_file.write_text("\n".join(left_behind) + "\n")
    assert stopped("db", "status", check=False).returncode == 3
    assert stopped("db", "stop").stdout == "it was not running\n"
    assert stopped("db", "uri").stdout.strip() == uri
    assert "embedded: PostgreSQL" in stopped("db", "status").stdout


@pytest.mark.long
def test_a_server_that_was_killed_comes_back(embedded: Embedded, months: Path) -> None:
    embedded("ingest", "000", "--data-dir", months)
    pid_file = Path(embedded.environment["STREAMFLOW_HOME"]) / "pgdata" / "postmaster.pid"
    os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
    again = embedded("ingest", "000", "--data-dir", months)
    assert "nothing to do" in again.stdout
    assert embedded("dbt", "build", "--quiet").returncode == 0
    assert "month 001 published" in embedded("ingest", "001", "--data-dir", months).stdout


def test_half_of_an_unlogged_table_keeps_no_server_down(stopped: Embedded) -> None:
    """A session that outlives its server may remove half of an unlogged table; the first recovery then fails once."""
    data = Path(stopped.environment["STREAMFLOW_HOME"]) / "pgdata"
    with psycopg.connect(stopped("db", "uri").stdout.strip(), autocommit=True) as connection:
        connection.execute("checkpoint")
        connection.execute("create unlogged table staged (value int)")
        [(file,)] = connection.execute("select pg_relation_filepath('staged')").fetchall()
        postmaster = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        for process in [postmaster, *postmaster.children()]:
            process.kill()
    (data / f"{file}_init").unlink()
    stopped("db", "start")
    assert "File exists" in (data / "log").read_text(), "the recovery of which this test is"


def test_it_runs_where_nobody_may_see_its_working_directory(stopped: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, where root has no CAP_SYS_PTRACE."""

    def denied(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "cwd", denied)
    monkeypatch.setattr(processes, "PATIENCE", 0)
    home = Path(stopped.environment["STREAMFLOW_HOME"])
    pid_file = home / "pgdata" / "postmaster.pid"
    server.start(home)
    assert server.stop(home)
    assert not pid_file.exists(), "it was waited for"
    server.start(home)
    postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
    left, *others = postmaster.children()
    left.suspend()
    for process in (postmaster, *others):
        process.kill()
    psutil.wait_procs([postmaster, *others])
    with pytest.raises(SurroundingsFailed, match="does not start"):
        server.start(home)
    assert pid_file.exists(), "one of its processes lives"
    left.kill()


def test_pgdata_may_be_a_link_to_another_disk(stopped: Embedded, tmp_path: Path) -> None:
    home = Path(stopped.environment["STREAMFLOW_HOME"])
    (home / "pgdata").rename(tmp_path / "elsewhere")
    (home / "pgdata").symlink_to(tmp_path / "elsewhere")
    stopped("db", "start")
    assert "embedded: PostgreSQL" in stopped("db", "status").stdout
    assert stopped("db", "stop").stdout == "stopped\n"
    assert not (home / "pgdata" / "postmaster.pid").exists(), "it was waited for"


START_TWICE = """
import os, signal
from pathlib import Path
from loader.database import server
from loader.errors import SurroundingsFailed

home = Path(os.environ["STREAMFLOW_HOME"])
stray = home / "pgdata" / "stray"
stray.parent.mkdir(parents=True)
stray.touch()
for _ in range(2):
    try:
        server.start(home)
    except SurroundingsFailed as error:
        print("failed:", "does not start" in str(error))
stray.unlink()
server.start(home)
os.kill(int((home / "pgdata" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
while server.socket_directory(home) is not None:
    pass
print("started:", (server.start(home) / ".s.PGSQL.5432").is_socket())
"""


def test_one_process_may_start_it_again_after_a_failure_and_after_a_kill(embedded: Embedded) -> None:
    command = [sys.executable, "-c", START_TWICE]
    result = subprocess.run(command, env=embedded.environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["failed: True", "failed: True", "started: True"], result


@pytest.mark.parametrize("below", [".", f"{'long' * 15}/{'path' * 15}"], ids=["in its folder", "path too long"])
def test_nobody_else_reaches_the_socket(embedded: Embedded, tmp_path: Path, below: str) -> None:
    embedded.environment["STREAMFLOW_HOME"] = str(tmp_path / "home" / below)
    embedded("db", "start")
    with psycopg.connect(embedded("db", "uri").stdout.strip()) as connection:
        directory = Path(str(connection.execute("show unix_socket_directories").fetchall()[0][0]))
    assert (directory.name == "pgdata") is (below == ".")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    again = embedded("db", "status")
    assert again.stderr == "", "no complaint about a folder that was opened for the server's user"
    embedded("db", "stop")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(embedded: Embedded, tmp_path: Path) -> None:
    embedded.environment |= {"TMPDIR": str(tmp_path), "STREAMFLOW_HOME": str(tmp_path / ("long" * 30))}
    (tmp_path / "streamflow-sockets-0").mkdir()
    os.chown(tmp_path / "streamflow-sockets-0", 12345, 12345)
    result = embedded("db", "start", check=False)
    assert result.returncode == 3
    assert "belongs to another user" in result.stderr


NAMES = ["$(touch caught)", "é\\%s*&|", "my home", "it's", 'a "b"', "`touch caught`", "a;touch caught", "a,b"]


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.long) for name in NAMES[1:])])
def test_a_home_of_any_name_works_and_reaches_no_shell(
    embedded: Embedded, months: Path, tmp_path: Path, name: str
) -> None:
    embedded.environment |= {"STREAMFLOW_HOME": str(tmp_path / name), "DBT_TARGET_PATH": str(tmp_path / "target")}
    embedded("db", "start")
    if name == NAMES[3]:
        assert "month 000 published" in embedded("ingest", "000", "--data-dir", months).stdout
        assert embedded("dbt", "build", "--quiet").returncode == 0
    assert embedded("db", "psql", "-At", "-c", "select 1").stdout == "1\n"
    with psycopg.connect(embedded("db", "uri").stdout.strip()) as connection:
        assert connection.info.dbname == "streamflow"
    assert embedded("db", "stop").stdout == "stopped\n"
    assert not [path for path in (Path.cwd(), tmp_path, *tmp_path.rglob("*")) if (path / "caught").exists()]


def test_a_line_break_in_the_path_is_refused_in_a_sentence(embedded: Embedded, tmp_path: Path) -> None:
    embedded.environment["STREAMFLOW_HOME"] = str(tmp_path / "two\nlines")
    result = embedded("db", "start", check=False)
    assert result.returncode == 2
    assert "a path without line breaks" in result.stderr


POINTS = [
    "pgdata.new-*",
    *(
        pytest.param(point, marks=pytest.mark.long)
        for point in ("pgdata.new-*/PG_VERSION", "pgdata.new-*/global/pg_control", "pgdata")
    ),
    "pgdata/postmaster.pid",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_during_the_first_start_leaves_no_dead_folder(embedded: Embedded, point: str) -> None:
    home = Path(embedded.environment["STREAMFLOW_HOME"])
    command = [str(Path(sys.executable).with_name("streamflow")), "db", "start"]
    with subprocess.Popen(command, env=embedded.environment, start_new_session=True) as first:
        while not list(home.glob(point)):
            assert first.poll() is None
        os.killpg(first.pid, signal.SIGKILL)
    assert embedded("db", "start").stdout.startswith("running\npostgresql://")
    assert embedded("db", "psql", "-At", "-c", "select 1").stdout == "1\n"
    assert [path.name for path in home.glob("pgdata*")] == ["pgdata"]


def test_a_pid_file_that_says_nothing_is_no_server(stopped: Embedded) -> None:
    home = Path(stopped.environment["STREAMFLOW_HOME"])
    for text in ("", "\n", "7", "no number\n/nowhere\n", "\x00" * 20):
        (home / "pgdata" / "postmaster.pid").write_text(text)
        assert server.socket_directory(home) is None, text
        assert server.start(home) == server.socket_directory(home), text
        assert server.stop(home), text


@pytest.mark.long
def test_a_copied_home_never_writes_into_the_original(stopped: Embedded, tmp_path: Path) -> None:
    stopped("db", "start")
    home, copied = Path(stopped.environment["STREAMFLOW_HOME"]), tmp_path / "copied"
    subprocess.run(["cp", "-a", home, copied], check=True)
    stopped.environment["STREAMFLOW_HOME"] = str(copied)
    assert stopped("db", "status", check=False).returncode == 3
    assert stopped("db", "stop").stdout == "it was not running\n"
    refused = stopped("db", "psql", "-c", "create table astray ()", check=False)
    assert refused.returncode == 3
    assert f"was copied from {home / 'pgdata'} while the server there ran" in refused.stderr

    stopped.environment["STREAMFLOW_HOME"] = str(home)
    assert "embedded: PostgreSQL" in stopped("db", "status").stdout, "the original was left alone"
    stopped("db", "psql", "-c", "create table kept ()")
    stopped("db", "stop")
    home.rename(tmp_path / "moved")
    stopped.environment["STREAMFLOW_HOME"] = str(tmp_path / "moved")
    tables = stopped("db", "psql", "-At", "-c", "select relname from pg_class where relname in ('kept', 'astray')")
    assert tables.stdout == "kept\n"


def test_a_home_that_was_moved_after_a_kill_comes_back(stopped: Embedded, tmp_path: Path) -> None:
    stopped("db", "start")
    home = Path(stopped.environment["STREAMFLOW_HOME"])
    server = psutil.Process(int((home / "pgdata" / "postmaster.pid").read_text().split()[0]))
    ended = [server, *server.children()]
    server.kill()
    psutil.wait_procs(ended)
    home.rename(tmp_path / "moved")
    stopped.environment["STREAMFLOW_HOME"] = str(tmp_path / "moved")
    stopped("db", "start")
    assert "moved" in stopped("db", "status").stdout


@pytest.mark.long
def test_a_standby_is_named(stopped: Embedded) -> None:
    """After a failover, POSTGRES_HOST may still name the server that was the primary."""
    stopped("ingest", "000")
    stopped("db", "stop")
    signal_file = Path(stopped.environment["STREAMFLOW_HOME"]) / "pgdata" / "standby.signal"
    signal_file.touch()
    if os.geteuid() == 0:
        shutil.chown(signal_file, server.SYSTEM_USER)
    stopped("db", "start")
    for command in (("doctor",), ("ingest", "001")):
        ended = stopped(*command, check=False)
        assert ended.returncode == 3, ended
        assert "standby" in ended.stdout + ended.stderr
        assert "set POSTGRES_HOST to the primary" in ended.stdout + ended.stderr


@pytest.mark.parametrize("waits_in", ["start", "connect"])
def test_a_recovery_is_waited_for_while_the_server_says_so(
    stopped: Embedded, monkeypatch: pytest.MonkeyPatch, waits_in: str
) -> None:
    """The server recovers until it is promoted; PATIENCE leaves no time for a server that does not answer."""
    monkeypatch.setattr(retries, "PATIENCE", -1)
    home = Path(stopped.environment["STREAMFLOW_HOME"])
    data = home / "pgdata"
    for file, text in (("standby.signal", ""), ("postgresql.auto.conf", "hot_standby = off\n")):
        (data / file).write_text(text)
        if os.geteuid() == 0:
            shutil.chown(data / file, server.SYSTEM_USER)
    settings = Settings(STREAMFLOW_HOME=home)  # type: ignore[call-arg]
    with ThreadPoolExecutor() as pool:
        started = pool.submit(server.start, home)
        while b"standby" not in ((data / "postmaster.pid").read_bytes() if (data / "postmaster.pid").exists() else b""):
            assert not started.done()
        if waits_in == "connect":
            opened = pool.submit(lambda: open_database(settings).connect().close())
            while (data / "log").read_text().count("FATAL") < 3:
                assert not opened.done()
        pid = int((data / "postmaster.pid").read_text().split()[0])
        (data / "promote").touch()
        os.kill(pid, signal.SIGUSR1)
        assert started.result() == server.socket_directory(home)
        if waits_in == "connect":
            opened.result()


def test_a_home_that_is_moved_while_its_server_runs_goes_on_there(stopped: Embedded, tmp_path: Path) -> None:
    stopped("db", "start")
    home = Path(stopped.environment["STREAMFLOW_HOME"])
    pid = (home / "pgdata" / "postmaster.pid").read_text().split()[0]
    stopped.environment["STREAMFLOW_HOME"] = str(home.rename(tmp_path / "elsewhere"))
    stopped("db", "psql", "-c", "select 1")
    assert (tmp_path / "elsewhere" / "pgdata" / "postmaster.pid").read_text().split()[0] == pid, "the same server"
    assert "stopped" in stopped("db", "stop").stdout


@pytest.mark.long
def test_the_server_of_a_folder_that_was_removed_is_ended_before_the_next_one_starts_there(stopped: Embedded) -> None:
    stopped("db", "start")
    home = Path(stopped.environment["STREAMFLOW_HOME"])
    first = int((home / "pgdata" / "postmaster.pid").read_text().split()[0])
    shutil.rmtree(home)
    stopped("db", "start")
    assert not psutil.pid_exists(first) or psutil.Process(first).status() == psutil.STATUS_ZOMBIE
    stopped("db", "psql", "-c", "select 1")


def test_data_of_another_version_are_refused_in_a_sentence(stopped: Embedded) -> None:
    file = Path(stopped.environment["STREAMFLOW_HOME"]) / "pgdata" / "PG_VERSION"
    kept = file.read_text()
    for version in ("17", "", "new"):
        file.write_text(f"{version}\n")
        refused = stopped("status", check=False)
        assert refused.returncode == 3
        assert f"its data is from PostgreSQL {version!r}, but streamflow comes with 16 and 18" in refused.stderr
    file.write_text(kept)
    stopped("db", "start")


def test_another_version_cannot_be_asked_for(embedded: Embedded) -> None:
    for version in ("17", "new"):
        embedded.environment["PGSERVER_POSTGRES_VERSION"] = version
        refused = embedded("db", "start", check=False)
        assert refused.returncode == 2
        assert "PGSERVER_POSTGRES_VERSION is 16 or 18" in refused.stderr
    del embedded.environment["PGSERVER_POSTGRES_VERSION"]


@pytest.mark.long
def test_what_it_writes_is_its_users_own(stopped: Embedded, months: Path, copy: Path, tmp_path: Path) -> None:
    """Rejects and all else may have customers' rows; models are for the team. Root's server must reach its folder."""
    set_value(copy_month(months, "000", tmp_path / "bad") / "labels.csv", 2, "churn_label", "maybe")
    home, model = Path(stopped.environment["STREAMFLOW_HOME"]), copy / "dbt_project/models/production/labels.sql"
    before = {home, *home.rglob("*")}
    model.unlink()
    mask = os.umask(0o022)
    try:
        assert stopped("check", "000", "--data-dir", tmp_path / "bad", check=False).returncode == 1
        stopped("--project-dir", copy, "models")
    finally:
        os.umask(mask)
    made = {path for path in home.rglob("*") if path not in before and "pgdata" not in path.parts}
    assert home / "rejects/month_000.csv" in made
    assert not [path for path in made if path.stat().st_mode & 0o077]
    assert stat.S_IMODE(model.stat().st_mode) == 0o644
