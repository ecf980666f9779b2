"""Roles log in with passwords, which appear nowhere: in no output, file, ledger, server log or command line."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from tests.conftest import Streamflow
from tests.files import copy_month, set_value
from tests.servers import Server, connect
from tests.test_roles import Roles

WRONG = "password authentication failed"
NOT_SSL = "server does not support SSL, but SSL was required"


@contextmanager
def configured(server: Server, **settings: str) -> Iterator[None]:
    """Change settings of the server, and reset them afterwards."""
    with closing(connect(server, "postgres")) as admin:
        for name, value in settings.items():
            admin.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        reload(server)
        try:
            yield
        finally:
            for name in settings:
                admin.execute(sql.SQL("alter system reset {}").format(sql.Identifier(name)))
            reload(server)


def reload(server: Server) -> None:
    """Have the server reload its configuration files; returns once new sessions use their content."""
    with closing(connect(server, "postgres")) as admin:
        before = admin.execute("select pg_conf_load_time(), pg_reload_conf()").fetchall()[0][0]
    for _ in range(10_000):
        with closing(connect(server, "postgres")) as fresh:
            if fresh.execute("select pg_conf_load_time()").fetchall()[0][0] > before:
                return
    raise AssertionError("the server does not read its files again")


@pytest.fixture
def asking(server: Server, role_names: list[str]) -> Iterator[None]:
    """The server asks these roles, and no others, for their passwords."""
    if server.workers:
        pytest.skip("whom a cluster asks for passwords is said in files of its nodes")
    with closing(connect(server, "postgres")) as admin:
        path = Path(admin.execute("show hba_file").fetchall()[0][0])
    before = path.read_text()
    path.write_text("".join(f'local all "{name}" scram-sha-256\n' for name in role_names) + before)
    reload(server)
    yield
    path.write_text(before)
    reload(server)


@pytest.fixture
def roles(asking: None, january: Streamflow, role_names: list[str]) -> Roles:
    """A database to hand over, on a server that asks for passwords."""
    return Roles(january, role_names)


def enters(roles: Roles, name: str, password: str) -> bool:
    """Whether the server lets a role in with that password."""
    try:
        connect(roles.admin.environment, "streamflow", name, password).close()
    except psycopg.OperationalError as error:
        assert WRONG in str(error)
        return False
    return True


def test_a_password_is_set_changed_and_kept(roles: Roles) -> None:
    environment = roles.admin.environment
    loader, reader = roles.loader_name, roles.reader_name
    environment["STREAMFLOW_LOADER_PASSWORD"] = "first"  # noqa: S105
    roles.admin.ok(*roles.arguments)
    assert enters(roles, loader, "first")
    assert not enters(roles, loader, "another")
    assert not enters(roles, reader, "first"), "a role without a password does not get in by any"

    environment["STREAMFLOW_LOADER_PASSWORD"] = "second"  # noqa: S105
    environment["STREAMFLOW_READER_PASSWORD"] = "third"  # noqa: S105
    roles.admin.ok(*roles.arguments)
    assert [enters(roles, loader, "first"), enters(roles, loader, "second")] == [False, True]
    assert [enters(roles, reader, "second"), enters(roles, reader, "third")] == [False, True]

    del environment["STREAMFLOW_LOADER_PASSWORD"], environment["STREAMFLOW_READER_PASSWORD"]
    result = roles.admin.ok(*roles.arguments, "--json").json
    assert [role["password"] for role in result["roles"]] == ["kept", "kept"]
    assert enters(roles, loader, "second")
    assert enters(roles, reader, "third")
    stored = roles.admin.rows("select rolpassword from pg_authid where rolname = any(%s)", [loader, reader])
    assert all(password.startswith("SCRAM-SHA-256$") for (password,) in stored)


@pytest.mark.parametrize(
    "password",
    ['it\'s "{{ x }}" \\ %s $1 #', *(pytest.param(p, marks=pytest.mark.long) for p in ("0123", "pässwörd ☃"))],
)
def test_any_password_will_do_for_loader_and_dbt(roles: Roles, months: Path, password: str) -> None:
    roles.admin.environment["STREAMFLOW_LOADER_PASSWORD"] = password
    roles.admin.ok(*roles.arguments)
    loader = roles.admin.acting_as(roles.loader_name, password)
    loader.ok("ingest", "001", "--data-dir", months)
    loader.environment["POSTGRES_PASSWORD"] = password + "x"
    result = loader("status")
    assert result.code == 3
    assert WRONG in result.err
    assert not loader.dbt("run-operation", "init").success


class Watched:
    """Runs `streamflow` in processes of its own; records its output and the command lines of the machine."""

    def __init__(self, streamflow: Streamflow, folder: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "STREAMFLOW_"))}
        self.folder = folder
        self.environment = {
            **kept,
            **streamflow.environment,
            "DBT_TARGET_PATH": str(folder / "target"),
            "DBT_WRITE_JSON": "true",
        }
        self.command_lines: set[str] = set()

    def __call__(self, *arguments: str | Path, **environment: str) -> int:
        """Run a command, its output into files; record all command lines of the machine meanwhile.

        With `psql`, its stdin stays open until the process has become psql, so that psql is seen before it ends.
        """
        program = [str(Path(sys.executable).with_name("streamflow")), *map(str, arguments)]
        number = len(list(self.folder.glob("*.out")))
        with (self.folder / f"{number}.out").open("wb") as out, (self.folder / f"{number}.err").open("wb") as err:
            process = subprocess.Popen(
                program,
                env={**self.environment, **environment},
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )
            assert process.stdin is not None
            while True:
                seen = {p.pid: " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])}
                self.command_lines |= set(seen.values())
                if "psql" not in arguments or seen.get(process.pid, "psql").startswith("psql"):
                    process.stdin.close()
                try:
                    return process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue


@pytest.mark.long
def test_a_password_appears_nowhere(
    server: Server, asking: None, january: Streamflow, role_names: list[str], months: Path, tmp_path: Path
) -> None:
    password = {purpose: f"{purpose}{secrets.token_hex(8)}" for purpose in ("loader", "reader", "admin", "wrong")}
    roles, connection = Roles(january, role_names), january.connection
    verifier = connection.pgconn.encrypt_password(password["admin"].encode(), b"", b"scram-sha-256").decode()
    connection.execute(
        sql.SQL("create role {} superuser login password {}").format(sql.Identifier(roles.owner_name), verifier)
    )
    log = Path(january.value("show data_directory")) / "log"
    before = log.stat().st_size
    (tmp_path / "run").mkdir()
    run = Watched(january, tmp_path / "run")
    admin = {"POSTGRES_USER": roles.owner_name, "POSTGRES_PASSWORD": password["admin"]}
    both = {f"STREAMFLOW_{purpose.upper()}_PASSWORD": password[purpose] for purpose in ("loader", "reader")}
    loader = {"POSTGRES_USER": roles.loader_name, "POSTGRES_PASSWORD": password["loader"]}
    wrong = {**loader, "POSTGRES_PASSWORD": password["wrong"]}
    folder = copy_month(months, "002", tmp_path / "bad")
    set_value(folder / "labels.csv", 3, "churn_label", "maybe")

    with configured(server, log_statement="all", log_min_messages="debug1", log_connections="on"):
        assert run(*roles.arguments, **admin, **both) == 0
        assert run("ingest", "001", "--data-dir", months, **loader) == 0
        assert run("check", "002", "--data-dir", folder.parent, **loader) == 1
        for command in ("status --json", "verify", "db uri", "db psql", "dbt debug"):
            assert run(*command.split(), **loader) == 0, command
        assert run("dbt", "--debug", "--log-level-file", "debug", "build", **loader) == 0
        assert run("ingest", "002", "--data-dir", months, **wrong) == 3
        assert run("dbt", "debug", **wrong) != 0
        assert run(*roles.arguments, **{**admin, "POSTGRES_PASSWORD": password["wrong"]}, **both) == 3

    found = {
        str(path): path.read_bytes()
        for place in (run.folder, Path(run.environment["STREAMFLOW_HOME"]))
        for path in place.rglob("*")
        if path.is_file()
    }
    found["the server's log"] = log.read_bytes()[before:]
    found["command lines"] = "\n".join(run.command_lines).encode()
    for (name,) in january.rows("select tablename from pg_tables where schemaname = 'ops'"):
        query = sql.SQL("select t::text from {} as t").format(sql.Identifier("ops", name))
        found[f"ops.{name}"] = repr(connection.execute(query).fetchall()).encode()

    names = {Path(name).name for name in found}
    assert {"partial_parse.msgpack", "manifest.json", "run_results.json", "dbt.log", "month_002.csv"} <= names
    assert b"ops.loads" in found["the server's log"]
    assert b"password 'SCRAM-SHA-256$" in found["the server's log"]
    assert b"dbt --debug" in found["command lines"]
    assert b"\npsql" in b"\n" + found["command lines"]
    assert b"published" in found["ops.loads"]
    assert [name for name, content in found.items() for word in password.values() if word.encode() in content] == []


class Refusing:
    """Listens like a server without TLS, and keeps what clients send after it has refused TLS."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                client.recv(8)
                client.sendall(b"N")
                self.heard += client.recv(1024)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.mark.parametrize("command", [("status",), ("dbt", "debug"), ("db", "psql")], ids=" ".join)
def test_tls_can_be_demanded_of_every_client(streamflow: Streamflow, tmp_path: Path, command: tuple[str, ...]) -> None:
    if "psql" in command and shutil.which("psql") is None:
        pytest.skip("no psql here but the carried one, which has no TLS")
    with closing(Refusing()) as refusing:
        environment = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(refusing.port), "PGSSLMODE": "require"}
        run = Watched(streamflow, tmp_path)
        assert run(*command, **environment) != 0
        assert NOT_SSL in (tmp_path / "0.out").read_text() + (tmp_path / "0.err").read_text()
        assert refusing.heard == b"", "nothing was said in clear"
