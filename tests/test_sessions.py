"""Settings of the server, the database and the role do not change what a session of streamflow or dbt does."""

from __future__ import annotations

import os
import resource
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg import sql

from loader.database import Database
from loader.pipeline import dbt
from loader.pipeline.kept_sessions import sessions_kept
from loader.project import project
from tests.conftest import Streamflow
from tests.servers import Server

WORST = {
    "client_connection_check_interval": "1ms",
    "datestyle": "SQL, DMY",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "intervalstyle": "sql_standard",
    "jit": "on",
    "lock_timeout": "1ms",
    "maintenance_work_mem": "1MB",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "statement_timeout": "200ms",
    "synchronous_commit": "off",
    "tcp_keepalives_count": "100",
    "tcp_keepalives_idle": "7200",
    "tcp_keepalives_interval": "600",
    "timezone": "Pacific/Kiritimati",
    "transform_null_equals": "on",
    "transaction_timeout": "1s",
    "work_mem": "64kB",
}
EACH = [*WORST.items(), ("default_transaction_isolation", "repeatable read"), ("row_security", "on")]


def set_to(streamflow: Streamflow, values: dict[str, str], role: bool = False) -> None:
    """Have new sessions of the database, or of the role in it, begin with those settings that the server knows."""
    known = {name for (name,) in streamflow.rows("select name from pg_settings")}
    where = sql.SQL("role current_user in database streamflow" if role else "database streamflow")
    for name in values.keys() & {name.lower() for name in known}:
        query = sql.SQL("alter {} set {} = {}").format(where, sql.Identifier(name), values[name])
        streamflow.connection.execute(query)


def two_months(january: Streamflow, months: Path) -> None:
    """Ingest February, land March and build it with dbt by hand, then verify."""
    january.ok("ingest", "001", "--data-dir", months)
    january.ok("land", "002", "--data-dir", months)
    built = january.dbt("build")
    assert built.success, said(built)
    assert january.value("select max(as_of)::text from ops.published") == "2024-03-31"
    assert "as it was written" in january.ok("verify").out


def settings(rows: list[Any]) -> dict[str, str]:
    """Of rows from pg_settings, the settings that WORST names."""
    return {name: value for name, value in rows if name.lower() in WORST}


def test_libpqs_own_variables_lead_to_no_other_server(january: Streamflow, months: Path) -> None:
    january.environment["PGHOSTADDR"] = "192.0.2.1"  # no host has it
    january.ok("ingest", "001", "--data-dir", months)


def test_sessions_have_the_settings_that_they_have_without_any(january: Streamflow, server: Server) -> None:
    def found() -> tuple[dict[str, str], dict[str, str]]:
        query = "select name, setting from pg_settings where source <> 'override'"
        with Database(server.host, server.port, "postgres", "streamflow", None, embedded=False).connect() as connection:
            ours = settings(connection.execute(query.encode()).fetchall())
        shown = january.dbt("show", "--inline", query, "--limit", "-1", "--quiet")
        return ours, settings([tuple(row) for row in shown.result.results[0].agate_table.rows])

    before = found()
    assert before[0] == before[1]
    assert len(before[0]) >= len(WORST) - 1, "PostgreSQL 16 has no transaction_timeout"
    set_to(january, WORST)
    assert found() == before
    assert before[0]["synchronous_commit"] == "on", "what is published stays published after a crash"


def said(result: Any) -> str:
    """The messages of a failed dbt run."""
    return f"{result.exception} {[node.message for node in getattr(result.result, 'results', None) or []]}"


@pytest.mark.parametrize(
    "role", [pytest.param(False, id="database"), pytest.param(True, id="role", marks=pytest.mark.long)]
)
def test_all_settings_at_their_worst(january: Streamflow, months: Path, undisturbed: Any, role: bool) -> None:
    set_to(january, WORST, role)
    if role and january.on_citus:  # Citus copies a role's settings to all nodes, and their sessions use them
        before = january.state()
        assert january("ingest", "001", "--data-dir", months).code == 3
        assert january.state() == before
        return
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed
    two_months(january, months)


@pytest.mark.long
@pytest.mark.parametrize(("name", "value"), EACH, ids=str)
def test_each_setting_at_its_worst(january: Streamflow, months: Path, name: str, value: str) -> None:
    set_to(january, {name: value})
    two_months(january, months)


@pytest.mark.long
def test_another_client_encoding(january: Streamflow, months: Path) -> None:
    """With dbt by hand, the driver takes the encoding from the server, and converts."""
    set_to(january, {"client_encoding": "LATIN1"})
    two_months(january, months)


def test_a_profile_without_the_settings_is_refused(january: Streamflow, months: Path, tmp_path: Path) -> None:
    set_to(january, {"default_transaction_isolation": "serializable"})
    profile = Path(january.environment["DBT_PROFILES_DIR"], "profiles.yml").read_text(encoding="utf-8")
    before, _, after = profile.partition("      role:")
    (tmp_path / "profiles.yml").write_text(before + after[after.index("      threads:") :], encoding="utf-8")
    january.ok("land", "001", "--data-dir", months)
    january.environment["DBT_PROFILES_DIR"] = str(tmp_path)
    refused = january.dbt("build")
    assert not refused.success
    assert "take `role` from the profiles.yml that streamflow wrote" in said(refused)


@pytest.mark.parametrize("encoding", ["LATIN1", pytest.param("SQL_ASCII", marks=pytest.mark.long)])
def test_a_database_of_another_encoding_is_refused(
    server: Server, streamflow: Streamflow, months: Path, encoding: str
) -> None:
    if streamflow.on_citus:
        pytest.skip("a database with Citus comes from a template")
    server.drop("streamflow")
    create = "create database streamflow template template0 locale 'C' encoding {}"
    server.everywhere(sql.SQL(create).format(encoding))
    for command in (["ingest", "000", "--data-dir", months], ["status"], ["verify"]):
        refused = streamflow(*command)
        assert refused.code == 3
        assert f"the database streamflow holds {encoding}" in refused.err
        assert "encoding 'UTF8' template template0" in refused.err
    by_hand = streamflow.dbt("build")
    assert not by_hand.success
    assert f"the database streamflow holds {encoding}" in said(by_hand)


def test_a_session_that_dbt_keeps_is_as_new(streamflow: Streamflow) -> None:
    """A node does not find in its session what the node before left there."""
    from multiprocessing import get_context
    from types import SimpleNamespace

    from dbt.adapters.postgres import PostgresAdapter, PostgresCredentials

    profile = yaml.safe_load((project().profiles / "profiles.yml").read_text(encoding="utf-8"))
    where = streamflow.environment
    credentials = PostgresCredentials(
        host=where["POSTGRES_HOST"], port=int(where["POSTGRES_PORT"]), user="postgres",
        password=where.get("POSTGRES_PASSWORD", ""),
        database="streamflow", schema="public", role=profile["streamflow"]["outputs"]["server"]["role"],
    )  # fmt: skip
    with sessions_kept():
        manager = PostgresAdapter.ConnectionManager(SimpleNamespace(credentials=credentials), get_context("spawn"))
    look = (
        "select pg_backend_pid(), current_setting('work_mem'), current_setting('statement_timeout'), current_user,"
        " to_regclass('pg_temp.left_over')::text,"
        " (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())"
    )

    def found(node: str) -> tuple[Any, ...]:
        manager.set_connection_name(node)
        return tuple(manager.add_query(look)[1].fetchone())

    first = found("one")
    manager.add_query(
        "set work_mem = '64kB'; set statement_timeout = 1234; create temporary table left_over ();"
        " select pg_advisory_lock(1); commit; begin; set role pg_read_all_data"
    )
    manager.release()
    assert found("two") == first
    streamflow.connection.execute("select pg_terminate_backend(%s::int)", [first[0]])
    manager.release()
    manager.release()  # dbt releases it twice after each node
    assert found("three")[1:] == first[1:], "a session that has ended is opened anew"
    manager.cleanup_all()


def test_a_process_may_have_many_open_files(streamflow: Streamflow) -> None:
    import psycopg2  # type: ignore[import-untyped]

    where = streamflow.environment
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2_048, before[1]))
    try:
        with ExitStack() as opened:
            while opened.enter_context(Path(os.devnull).open()).fileno() < 1_024:
                pass
            with dbt._interruptible():
                connection = psycopg2.connect(
                    host=where["POSTGRES_HOST"], port=where["POSTGRES_PORT"], user="postgres", dbname="streamflow",
                    password=where.get("POSTGRES_PASSWORD", ""),
                )  # fmt: skip
                opened.callback(connection.close)
                connection.cursor().execute("select pg_sleep(0.01)")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_connection_that_idles_is_kept_alive(january: Streamflow, server: Server) -> None:
    """The lock's connection idles while dbt builds: a firewall would drop it, and neither side would notice."""
    theirs = "select count(*) from pg_settings where name like 'tcp_keepalives%' and source = 'session'"
    with Database(server.host, server.port, "postgres", "streamflow", None, embedded=False).connect() as connection:
        parameters = connection.info.get_parameters()
        assert connection.execute(theirs).fetchall() == [(3,)]
    assert {name: value for name, value in parameters.items() if name.startswith("keepalives_")} == {
        "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3",
    }  # fmt: skip
    profile = yaml.safe_load((project().profiles / "profiles.yml").read_text(encoding="utf-8"))
    assert profile["streamflow"]["outputs"]["server"]["keepalives_idle"] == 30
