"""What the tests share: servers of both versions, an empty database each, small months, the command line in process."""

from __future__ import annotations

import contextlib
import csv
import faulthandler
import gc
import importlib.util
import io
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import psycopg
import pytest
from psycopg import sql

from loader import ledger
from loader.cli import main as cli
from loader.contract.tables import load_contract
from loader.database import Database
from loader.database import server as embedded_server
from loader.pipeline import dbt
from loader.pipeline.fewer_events import without_debug_events
from loader.pipeline.kept_templates import templates_kept
from loader.project import VARIABLE, project
from loader.settings import load_settings
from tests.files import copy_month, set_value
from tests.forked import run_forked
from tests.servers import Server, cluster, connect

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
CITUS = "citus"
CITUS_URI = os.environ.get("STREAMFLOW_TEST_CITUS_URI")
EMBEDDED = [f"pg{version}" for version in os.environ.get("STREAMFLOW_TEST_VERSIONS", "16,18").split(",")]
SERVERS = [CITUS] if CITUS_URI else EMBEDDED
TABLES = [table.name for table in load_contract()]
WITHOUT_DURABILITY = ("fsync", "full_page_writes", "synchronous_commit")
"""Off on the shared server, as no test kills it: each dropped database forces a checkpoint, which is cheaper so."""
FROM_ONE_PARSE = {"--select", "--exclude", "--exclude-resource-type", "--full-refresh", "--empty"}
"""Options with which dbt's build, run and test can reuse the project that was parsed once."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unless STREAMFLOW_TEST_LONG is set, leave out long tests, and run each other test on one server only.

    Its name says which, so that a test has the same one whichever tests run with it.
    """
    if os.environ.get("STREAMFLOW_TEST_LONG"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    cases = {_case(item) for item in items if _case(item) != item.nodeid and item not in long}
    turn = {case: SERVERS[crc32(case.encode()) % len(SERVERS)] for case in cases}
    other = [item for item in items if _case(item) in turn and turn[_case(item)] not in item.nodeid] + long
    config.hook.pytest_deselected(items=other)
    items[:] = [item for item in items if item not in set(other)]


def _case(item: pytest.Item) -> str:
    """A test's id without the server."""
    return re.sub(r"\b(" + "|".join(SERVERS) + r")\b-?", "", item.nodeid)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """In a long run, fuzzing may take longer than the limit that ends a test that hangs."""
    if os.environ.get("STREAMFLOW_TEST_LONG"):
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def _dbt_does_not_look_at_the_stack() -> Iterator[None]:
    """To note which module made a flag, dbt reads the source of every stack frame: two fifths of the time."""
    from dbt_common.behavior_flags import BehaviorFlagRendered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BehaviorFlagRendered, "_default_source", staticmethod(lambda: "dbt.adapters.postgres.impl"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _dbt_tells_no_details() -> Iterator[None]:
    """Leave out debug events when tests run dbt by hand, as an ingest does."""
    with without_debug_events():
        yield


@pytest.fixture(scope="session", autouse=True)
def _dbt_makes_a_type_tester_once() -> Iterator[None]:
    """For each result, dbt makes objects that recognize types, which are the same for the same columns of text."""
    from dbt_common.clients import agate_helper

    make = cache(agate_helper.build_type_tester)

    def made_once(text_columns: Iterable[str], string_null_values: Iterable[str] = ("null", "")) -> Any:
        return make(frozenset(text_columns), tuple(string_null_values))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agate_helper, "build_type_tester", made_once)
        yield


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Counts what a fuzzing test tries. The sums, over all worker processes, are shown after the tests."""
    counts = Counter[str]()
    yield counts
    request.node.user_properties.extend(counts.items())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much was fuzzed."""
    sums = Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                for name, count in report.user_properties:
                    sums[name] += count
    if sums:
        terminalreporter.section("fuzzed")
        for name, count in sums.items():
            terminalreporter.write_line(f"{count:>8,}  {name}")


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What `--json` printed."""
        return json.loads(self.out)


class Streamflow:
    """The command line, run in this process on one database, and a connection to look at what it left."""

    def __init__(self, environment: dict[str, str], connection: psycopg.Connection[Any]) -> None:
        self.environment, self.connection = environment, connection

    def __call__(self, *arguments: str | Path) -> Result:
        """Run `streamflow ARGUMENTS` and return how it ended."""
        out, err = io.StringIO(), io.StringIO()
        load_settings.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", os.environ.copy())
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["streamflow", *map(str, arguments)])
            patch.setattr(dbt, "parse", parsed_once)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = _exit_code()
        load_settings.cache_clear()  # it holds the settings of that environment
        return Result(code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: str | Path) -> Result:
        """Run a command that must end with 0."""
        result = self(*arguments)
        assert result.code == 0, result
        return result

    def dbt(self, *arguments: str) -> Any:
        """Run dbt in this process, as a person would by hand, with the environment of this database.

        `build`, `run` and `test` reuse the project that was parsed once, and all commands what Jinja compiled before.
        """
        from dbt.cli.main import dbtRunner

        folder, profiles = str(REPOSITORY / "dbt_project"), str(REPOSITORY / "profiles")
        asked = {word for word in arguments if word.startswith("-")}
        is_parsed = arguments[0] in {"build", "run", "test"} and asked <= FROM_ONE_PARSE
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            manifest = None
            if is_parsed and self.environment["DBT_PROFILES_DIR"] == profiles:
                patch.setenv("DBT_PROJECT_DIR", folder)
                manifest = parsed_once().result.deepcopy()  # a run changes it
            logs = [] if "--log-level-file" in asked else ["--log-level-file", "info"]
            options = ["--project-dir", folder, "--log-path", self.environment["LOGS"], *logs]
            with templates_kept():
                return dbtRunner(manifest=manifest).invoke([*arguments, *options])

    @property
    def on_citus(self) -> bool:
        """Whether the database is spread over a cluster."""
        return bool(self.value("select exists (select 1 from pg_extension where extname = 'citus')"))

    def acting_as(self, user: str, password: str | None = None) -> Streamflow:
        """The command line and a connection to the same database, both as another role."""
        environment = {**self.environment, "POSTGRES_USER": user, "POSTGRES_PASSWORD": password or "none needed"}
        return Streamflow(environment, connect(environment, "streamflow", user, password))

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection.execute(query.encode(), values).fetchall()

    def value(self, query: str, *values: object) -> Any:
        """The one value of a query."""
        [(value,)] = self.rows(query, *values)
        return value

    def table(self, name: str) -> list[tuple[Any, ...]]:
        """A table's rows in a fixed order; [] if there is no such table."""
        if self.value("select to_regclass(%s) is null", name):
            return []
        query = sql.SQL("select * from {}").format(sql.Identifier(*name.split(".")))
        return sorted(self.connection.execute(query).fetchall(), key=repr)

    def production(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every production table, row for row."""
        return {name: self.table(name) for name in TABLES}

    def history(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every history table, row for row."""
        return {name: self.table(f"{name}_snapshots") for name in TABLES}

    def latest(self) -> dict[str, list[tuple[Any, ...]]]:
        """The newest published month, row for row."""
        return {name: self.table(f"latest.{name}") for name in TABLES}

    def state(self) -> tuple[Any, Any]:
        """Production and history."""
        return self.production(), self.history()


def rejects_of(streamflow: Streamflow, month: str) -> list[dict[str, str]]:
    """The rejects file of a month."""
    path = Path(streamflow.environment["STREAMFLOW_HOME"]) / "rejects" / f"month_{month}.csv"
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@cache
def parsed_once() -> Any:
    """The project, parsed once for all commands that run in this process; it is the same for every server."""
    from dbt.cli.main import dbtRunner

    parsed = dbtRunner().invoke(["parse", "--no-write-json", *dbt.QUIET])
    gc.freeze()  # it is never freed, so garbage collection can skip it
    return parsed


def _exit_code() -> int:
    try:
        return cli.main()
    finally:
        gc.enable()  # a command turns it off, since its process usually ends with it


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running PostgreSQL without durability, as no test kills it, or the cluster."""
    if request.param == CITUS:
        yield cluster(str(CITUS_URI))
        return
    home = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        version = int(request.param.removeprefix("pg"))
        patch.setattr(embedded_server._carried(), "TARGET_POSTGRES_VERSION", version)
        running = Server(str(embedded_server.start(home)))
    with contextlib.closing(connect(running, "postgres")) as connection:
        for setting in WITHOUT_DURABILITY:
            connection.execute(f"alter system set {setting} = off".encode())
        connection.execute("select pg_reload_conf()")
    yield running
    embedded_server.stop(home)


@pytest.fixture(scope="session")
def dbt_target(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dbt's target folder for this server: the project is parsed once for it. Only copies of the project share it."""
    return tmp_path_factory.mktemp("target")


@pytest.fixture
def new_database(server: Server, dbt_target: Path, tmp_path: Path) -> Iterator[Callable[..., Streamflow]]:
    """Makes a database, empty or a copy of another, and returns the command line on it. The name is always the same,
    since dbt keeps it in the parsed project."""
    with contextlib.ExitStack() as stack:

        def make(template: str | None = None) -> Streamflow:
            server.make("streamflow", template)
            connection = stack.enter_context(contextlib.closing(connect(server, "streamflow")))
            if server.workers:  # some tests disable or drop history's triggers
                connection.execute("set citus.enable_unsafe_triggers = on")
            return Streamflow(environment(server, dbt_target, tmp_path), connection)

        yield make


def environment(server: Server, dbt_target: Path, folder: Path) -> dict[str, str]:
    """The settings for a server; all files but dbt's target are written below `folder`."""
    return {
        **server.variables,
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": "streamflow",
        "STREAMFLOW_HOME": str(folder / "home"),
        "STREAMFLOW_REPORT": "false",
        "DBT_TARGET_PATH": str(dbt_target),
        "DBT_PROFILES_DIR": str(REPOSITORY / "profiles"),
        "DBT_WRITE_JSON": "false",  # a tenth of the time
        "LOGS": str(folder / "logs"),
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="module")
def csv_database(server: Server) -> Database:
    """A database with an empty ledger and nothing else, to read files into."""
    server.make("csv")
    database = Database(server.host, server.port, "postgres", "csv", None, embedded=False)
    with database.connect() as connection:
        ledger.prepare(connection)
    return database


@pytest.fixture
def role_names(server: Server) -> Iterator[list[str]]:
    """Three names for roles. All databases of a server share its roles, so these are dropped after the test."""
    names = [f"{purpose}_{secrets.token_hex(4)}" for purpose in ("loader", "reader", "owner")]
    yield names
    server.drop("streamflow")
    with contextlib.closing(connect(server, "postgres")) as admin:
        for name in names:
            admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))


@pytest.fixture
def streamflow(new_database: Callable[..., Streamflow]) -> Streamflow:
    """The command line on an empty database."""
    return new_database()


@contextlib.contextmanager
def kept(
    server: Server, dbt_target: Path, folder: Path, name: str, template: str | None = None
) -> Iterator[Streamflow]:
    """The command line on a database, empty or a copy; afterwards the database is kept as the template `name`."""
    server.make("streamflow", template)
    with contextlib.closing(connect(server, "streamflow")) as connection:
        yield Streamflow(environment(server, dbt_target, folder), connection)
    server.keep("streamflow", name)


@pytest.fixture(scope="session")
def january_published(server: Server, dbt_target: Path, months: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a template database in which month 000 of `months` is published."""
    with kept(server, dbt_target, tmp_path_factory.mktemp("january"), "january") as streamflow:
        streamflow.ok("ingest", "000", "--data-dir", months)
    return "january"


@pytest.fixture
def january(new_database: Callable[..., Streamflow], january_published: str) -> Streamflow:
    """The command line on a database in which month 000 of `months` is published."""
    return new_database(january_published)


@pytest.fixture(scope="session")
def february_published(
    server: Server, dbt_target: Path, january_published: str, months: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The name of a template database in which months 000 and 001 of `months` are published."""
    folder = tmp_path_factory.mktemp("february")
    with kept(server, dbt_target, folder, "february", january_published) as streamflow:
        streamflow.ok("ingest", "001", "--data-dir", months)
    return "february"


@pytest.fixture
def february(new_database: Callable[..., Streamflow], february_published: str) -> Streamflow:
    """The command line on a database in which months 000 and 001 of `months` are published."""
    return new_database(february_published)


@pytest.fixture(scope="session")
def march_published(
    server: Server, dbt_target: Path, february_published: str, months: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The name of a template database in which months 000 to 002 of `months` are published."""
    with kept(server, dbt_target, tmp_path_factory.mktemp("march"), "march", february_published) as streamflow:
        streamflow.ok("ingest", "002", "--data-dir", months)
    return "march"


@pytest.fixture
def march(new_database: Callable[..., Streamflow], march_published: str) -> Streamflow:
    """The command line on a database in which months 000 to 002 of `months` are published."""
    return new_database(march_published)


@pytest.fixture(scope="session")
def restated_published(
    server: Server, dbt_target: Path, february_published: str, months: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """The name of a template database with a restated month, and the text of its manifest."""
    folder = tmp_path_factory.mktemp("restated")
    with kept(server, dbt_target, folder, "restated", february_published) as streamflow:
        set_value(copy_month(months, "001", folder) / "labels.csv", 3, "churn_label", "")
        streamflow.ok("ingest", "001", "--data-dir", folder, "--restate", "--reason", "a label was wrong")
        streamflow.ok("verify", "--manifest", folder / "manifest")
    return "restated", (folder / "manifest").read_text()


@pytest.fixture
def restated(
    new_database: Callable[..., Streamflow], restated_published: tuple[str, str], tmp_path: Path
) -> tuple[Streamflow, Path]:
    """The command line on a database with a restated month, and the path of its manifest."""
    name, manifest = restated_published
    path = tmp_path / "manifest"
    path.write_text(manifest)
    return new_database(name), path


@pytest.fixture(scope="session")
def undisturbed(server: Server, february_published: str) -> Any:
    """Production and history after undisturbed ingests of January and February."""
    server.make("streamflow", february_published)
    with contextlib.closing(connect(server, "streamflow")) as connection:
        return Streamflow({}, connection).state()


@pytest.fixture(scope="session")
def months(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five made-up months of 60 customers."""
    folder = tmp_path_factory.mktemp("months")
    generate("--out", folder, "--users", 60, "--months", 5, "--churn", 0.1)
    return folder


@pytest.fixture(scope="session")
def real_months() -> Path:
    """The folder of the two real months; skips the test if there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real months are not at hand")
    return SHARED_DATA


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository's code, to change."""
    folder = tmp_path / "copy"
    for name in ("loader", "dbt_project", "profiles"):
        ignore = shutil.ignore_patterns("target", "logs")
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, ignore=ignore)
    return folder


@pytest.fixture
def use_project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes the code that a test calls in this process use the project in a folder."""

    def use(folder: Path) -> None:
        monkeypatch.setenv(VARIABLE, str(folder))
        project.cache_clear()

    yield use
    project.cache_clear()


def run_copy(copy: Path, streamflow: Streamflow, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of the copy, on the database of `streamflow`.

    The first run takes over dbt's partial parse of the original project, so that dbt parses only what was changed, and
    all runs share the code of compiled templates.
    """
    environment = {**os.environ, **streamflow.environment}
    original, target = Path(environment["DBT_TARGET_PATH"]), copy / "dbt_project" / "target"
    if (original / "partial_parse.msgpack").exists() and not target.exists():
        target.mkdir()
        shutil.copy(original / "partial_parse.msgpack", target)
        (original / "templates").mkdir(exist_ok=True)
        (target / "templates").symlink_to(original / "templates")
    del environment["DBT_TARGET_PATH"], environment["DBT_PROFILES_DIR"]
    return run_forked(copy, copy, environment, arguments)


def generate(*arguments: object) -> None:
    """Run seeds_data/generate.py."""
    path = REPOSITORY / "seeds_data" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        module.main()
