"""A Citus cluster: customers are spread over the nodes, work is done where their rows are, and a node may fail."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlparse
from psycopg import sql

from loader.database import server as embedded_server
from tests.bench.machine import generate
from tests.conftest import CITUS_URI, REPOSITORY, TABLES, Streamflow, environment
from tests.files import copy_month, set_value
from tests.pauses import paused, start, waiting_for
from tests.servers import Server, connect
from tests.test_gate import land_only
from tests.test_immutability import CHANGES

pytestmark = pytest.mark.skipif(CITUS_URI is None, reason="STREAMFLOW_TEST_CITUS_URI names no cluster")

STATEMENT = re.compile(r"\[debug\] \[[^\]]*\]: On \S+: (.*?)(?=\n[^\n]*\d\d:\d\d:\d\d\.\d+ \[|\Z)", re.S)
COMMENT = re.compile(r"/\*.*?\*/", re.S)
VIEW = re.compile(r"create temporary view \"(\w+)\"")
TEMPORARY = re.compile(r"\"(\w+__dbt_tmp\w*)\"")
QUERY = re.compile(r"(select|with|merge|update|delete|insert)\b(?! (into )?ops\b)", re.I)
WRITE = re.compile(r"(merge into|delete from|insert into) \S*\"(?:public|history)\"", re.I)
HISTORY = re.compile(r"select ops\.build_history\(\s*'\S*\"(\w+)_snapshots\"',\s*'(\"\w+\")'")
FILL = 'insert into "history"."{}_2024_01_31" select * from {}'
"""The insert with which ops.build_history fills a partition, here into one that exists."""
SIZE = r"{}: (\d+) (bytes|kB|MB)"
FEW_BYTES = 40_000
"""Enough for sums, five rows of each shard and the ledger of a few months; less than one column of 2,000 customers."""


@pytest.fixture(scope="module")
def sent(server: Server, dbt_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """What dbt sends for months of 2,000 customers: in order, early, late-arriving, restated; and for a rebuild."""
    server.make("streamflow")
    with contextlib.closing(connect(server, "streamflow")) as connection:
        folder = tmp_path_factory.mktemp("sent")
        data = generate(folder / "data", 2_000, 4)
        streamflow = Streamflow(environment(server, dbt_target, folder), connection)
        streamflow.ok("ingest", "000", "--data-dir", data)
        for month in (1, 3, 2):
            land_only(streamflow, data / f"month_{month:03d}", month)
            build(streamflow)
        set_value(data / "month_001" / "labels.csv", 3, "churn_label", "")
        land_only(streamflow, data / "month_001", 1, restates="wrong")
        build(streamflow)
        build(streamflow, "--full-refresh")
        log = COMMENT.sub("", (folder / "logs" / "dbt.log").read_text())
        statements = [one.strip(" ;\n") for sent in STATEMENT.findall(log) for one in sqlparse.split(sent)]
        statements += [FILL.format(*found) for found in HISTORY.findall(log)]
        yield Sent(streamflow, list(dict.fromkeys(statements)), data)


def build(streamflow: Streamflow, *arguments: str) -> None:
    """Audit and publish what is landed; each statement goes to dbt.log."""
    result = streamflow.dbt("build", *arguments, "--log-level-file", "debug")
    assert result.success, result.exception


@dataclass(frozen=True)
class Sent:
    """Statements, the database that they were sent to, and the months' files."""

    streamflow: Streamflow
    statements: list[str]
    data: Path

    def starting(self, pattern: re.Pattern[str]) -> list[str]:
        """Statements that begin with the pattern, without those that read unit tests' temporary tables, now gone."""
        views = self.views
        return [text for text in self.statements if pattern.match(text) and views.keys() >= {*TEMPORARY.findall(text)}]

    @property
    def views(self) -> dict[str, str]:
        """Name -> the statement that makes it, for the models' temporary views."""
        return {found.group(1): text for text in self.statements if (found := VIEW.match(text))}

    def plan(self, query: str, options: str = "costs off") -> str:
        """The plan of a query, in a transaction that is rolled back."""
        with self.streamflow.connection.transaction(force_rollback=True):
            for name in {*TEMPORARY.findall(query)}:
                self.streamflow.connection.execute(self.views[name].encode())
            rows = self.streamflow.rows(f"explain ({options}) {query}".replace("%", "%%"))
        return "\n".join(line for (line,) in rows)


def size(plan: str, what: str) -> int:
    """The bytes of `what` over all steps of a plan."""
    units = {"bytes": 1, "kB": 1024, "MB": 1 << 20}
    return sum(int(number) * units[unit] for number, unit in re.findall(SIZE.format(what), plan))


def to_the_coordinator(plan: str) -> int:
    """The bytes of rows that went between the nodes and the coordinator."""
    return size(plan, "Tuple data received from nodes") + size(plan, "Intermediate Data Size")


def test_history_and_production_are_written_where_the_rows_are(sent: Sent) -> None:
    writes = sent.starting(WRITE)
    kinds = Counter(text.split()[0] for text in writes)
    assert kinds["insert"] == 5 * len(TABLES)
    assert kinds["merge"] >= 4 * len(TABLES)
    assert kinds["delete"] >= len(TABLES)
    for write in writes:
        plan = sent.plan(write)
        assert plan.startswith("Custom Scan (Citus Adaptive)"), f"{write}\n{plan}"
        assert "Distributed Subplan" not in plan, f"{write}\n{plan}"


def test_no_step_sends_customers_through_the_coordinator(sent: Sent) -> None:
    """Runs every query and change of dbt again, except the changes of history, which history refuses."""
    queries = [text for text in sent.starting(QUERY) if '"history"' not in text or text.startswith("select")]
    assert len([text for text in queries if "should_error" in text]) > 40
    assert len([text for text in queries if TEMPORARY.search(text)]) > 8 * len(TABLES), "counts, merges"
    queries = [text for text in queries if "streamflow.is_same" not in text]  # it needs the views that it compares
    plans = {query: sent.plan(query, "analyze, costs off") for query in queries}
    assert not {query: plan for query, plan in plans.items() if to_the_coordinator(plan) >= FEW_BYTES}
    assert any(map(to_the_coordinator, plans.values())), "the plans no longer say what is sent"


def test_proof_and_comparison_are_made_where_the_rows_are(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks the queries of `verify`, `diff` and an ingest from other files."""
    asked: list[str] = []
    execute = psycopg.Connection.execute

    def asking(self: psycopg.Connection[Any], query: Any, values: Any = None, **options: Any) -> Any:
        text = query.as_string(self) if isinstance(query, sql.Composed) else ""
        if re.search(r'^(select|with)\b.*"(public|staging|history)"', text, re.M | re.S):
            asked.append(text)  # ops.checksum runs a query of its own
        return execute(self, query, values, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", asking)
    streamflow = sent.streamflow
    streamflow.ok("verify")
    streamflow.ok("diff", "2024-02-29", "2024-03-31")
    months = sorted(sent.data.iterdir())
    set_value(months[2] / "labels.csv", 3, "churn_label", "")
    assert "rows that differ" in streamflow("ingest", "002", "--data-dir", sent.data).err
    monkeypatch.undo()
    assert len(asked) > 5 * len(TABLES)
    for query in asked:
        plan = sent.plan(query, "analyze, costs off")
        assert to_the_coordinator(plan) < FEW_BYTES, f"{query}\n{plan}"


def test_a_training_set_is_joined_where_the_rows_are(sent: Sent) -> None:
    query = "select * from training_set where as_of = '2024-01-31' and label_as_of = '2024-02-29'"
    plan = sent.plan(query, "analyze, costs off")
    ledger, rows = size(plan, "Intermediate Data Size"), size(plan, "Tuple data received from nodes")
    assert 10 * ledger < rows, plan


def test_every_table_is_spread_by_customer_and_beside_the_others(january: Streamflow) -> None:
    spread = january.rows(
        "select logicalrelid::text, colocationid, column_to_column_name(logicalrelid, partkey)"
        " from pg_dist_partition where partmethod = 'h'"
    )
    names = {name for name, _, _ in spread}
    for table in TABLES:
        assert {table, f"{table}_snapshots", f"staging.{table}", f"history.{table}_2024_01_31"} <= names
    assert len({group for _, group, _ in spread}) == 1
    assert {key for _, _, key in spread} == {"user_id"}
    assert not [name for name in names if name.startswith("ops.")]


@pytest.fixture
def worker() -> Iterator[Callable[[int], None]]:
    """Kills one worker (0) or brings it back (1); brings it back after the test in any case."""
    commands = [os.environ.get(f"STREAMFLOW_TEST_CITUS_WORKER_{way}") for way in ("DOWN", "UP")]
    if not all(commands):
        pytest.skip("STREAMFLOW_TEST_CITUS_WORKER_DOWN and _UP name no commands that kill a worker and bring it back")

    def run(command: str | None) -> None:
        subprocess.run(shlex.split(str(command)), check=True, capture_output=True)

    yield lambda way: run(commands[way])
    run(commands[1])


@pytest.mark.parametrize("point", ["gate", "last history", "last merge"])
def test_a_worker_is_killed(
    january: Streamflow, months: Path, undisturbed: Any, worker: Callable[[int], None], point: str
) -> None:
    before = january.latest()
    with paused(january, point, "ingest", "001", "--data-dir", months) as run:
        worker(0)
    assert run.process.returncode == 3, run.said
    assert "Traceback" not in run.said[1]
    worker(1)
    with contextlib.closing(connect(january.environment, "streamflow")) as reader:
        assert Streamflow(january.environment, reader).latest() == before
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed
    january.ok("verify")


def test_a_month_is_not_refused_for_what_a_worker_lost(
    january: Streamflow, months: Path, undisturbed: Any, worker: Callable[[int], None]
) -> None:
    """The worker fails between two tables of a landing, and is back before the next table."""
    with paused(january, "landing", "ingest", "001", "--data-dir", months) as run:
        worker(0)
        worker(1)
    assert run.process.returncode in {0, 3}, run.said
    assert "refused" not in {state for (state,) in january.rows("select state from ops.loads")}
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed
    january.ok("verify")


@pytest.mark.parametrize("at", ["coordinator", "worker"])
def test_a_reader_who_stays_holds_nobody_else_up(
    january: Streamflow, months: Path, server: Server, undisturbed: Any, at: str
) -> None:
    """The run retries its lock on labels, and lets other readers through in between."""
    node = server if at == "coordinator" else Server(*server.workers[0])
    with (
        contextlib.closing(connect(node, "streamflow")) as reader,
        contextlib.closing(connect(node, "streamflow")) as watch,
    ):
        with reader.transaction():
            reader.execute("select from labels")
            process = start(january, "ingest", "001", "--data-dir", months)
            waiting_for(reader, watch, process, "the end")
            january.connection.execute("set statement_timeout = '10s'")
            assert january.value("select count(*) from labels") == 60
        said = process.communicate()
    assert process.returncode == 0, said
    assert january.state() == undisturbed


@contextlib.contextmanager
def left_behind(server: Server) -> Iterator[str]:
    """Prepare a transaction on a worker, as if it failed between the coordinator's commit and its own."""
    host, port = server.workers[0]
    with contextlib.closing(connect(Server(host, port), "streamflow")) as worker_session:
        for statement in ("begin", "create table left_behind ()", "prepare transaction 'citus_999_1_1_1'"):
            worker_session.execute(statement.encode())
        try:
            yield f"{host}:{port}"
        finally:
            worker_session.execute("rollback prepared 'citus_999_1_1_1'")


def test_a_node_that_failed_while_a_month_was_committed_is_told_of(
    january: Streamflow, months: Path, server: Server, undisturbed: Any
) -> None:
    with contextlib.ExitStack() as failure:
        with paused(january, "published", "ingest", "001", "--data-dir", months) as run:
            node = failure.enter_context(left_behind(server))
        assert run.process.returncode == 3
        assert f"month 001 published, as of 2024-02-29, but readers may see it in part: {node}" in run.said[1]
        assert january.state() == undisturbed
    assert january.ok("ingest", "001", "--data-dir", months, "--json").json["state"] == "unchanged"


def test_nothing_is_begun_before_a_node_has_finished(january: Streamflow, months: Path, server: Server) -> None:
    before = january.state()
    with left_behind(server) as node:
        result = january("ingest", "001", "--data-dir", months)
    assert result.code == 3
    assert f"nothing was begun: {node} cannot be reached, or has yet to finish" in result.err
    assert january.state() == before
    january.ok("ingest", "001", "--data-dir", months)


def test_a_coordinator_without_workers_holds_the_shards(
    server: Server, dbt_target: Path, months: Path, tmp_path: Path
) -> None:
    server.make("streamflow", "template1")
    with contextlib.closing(connect(server, "streamflow")) as connection:
        connection.execute("create extension citus")
        streamflow = Streamflow(environment(server, dbt_target, tmp_path), connection)
        streamflow.ok("ingest", "000", "--data-dir", months)
        streamflow.ok("verify")


def test_a_partition_with_a_long_name_is_spread(january: Streamflow) -> None:
    january.connection.execute("set statement_timeout = '20s'")
    for length in (52, 53, 56, 63):
        name = f"history.{'n' * length}"
        january.connection.execute(f"create table {name} (like users_snapshots)".encode())
        january.connection.execute("select ops.spread(%s, 'user_id')", [name])


def test_no_audit_fails_for_what_a_worker_lost_of_staging(
    january: Streamflow, months: Path, undisturbed: Any, worker: Callable[[int], None]
) -> None:
    """A crash empties the node's unlogged shards, and `dbt build` finds the others."""
    land_only(january, months / "month_001", 1)
    worker(0)
    worker(1)
    result = january.dbt("build")
    assert "staging is empty, as after a crash" in str([node.message for node in result.result.results])
    assert january.rows("select audit_id from ops.audits where status = 'fail'") == []
    january.ok("ingest", "001", "--data-dir", months)
    worker(0)
    worker(1)
    build(january)
    assert january.state() == undisturbed


def test_a_node_that_has_yet_to_finish_is_named(
    january: Streamflow, months: Path, server: Server, role_names: list[str]
) -> None:
    """Also to the role that loads, which may not have Citus finish the commit; `verify` misses no rows meanwhile."""
    january.ok("init", "--roles", "--loader-role", role_names[0], "--reader-role", role_names[1])
    loader = january.acting_as(role_names[0])
    with left_behind(server) as node:
        for words in (["ingest", "001", "--data-dir", months], ["verify"], ["doctor"]):
            for who in (january, loader):
                result = who(*words)
                assert result.code == 3, result
                assert f"{node} cannot be reached, or has yet to finish" in result.out + result.err
    loader.ok("verify")


def documented(heading: str, language: str) -> list[str]:
    """The code blocks in a section of docs/scale-out.md."""
    text = (REPOSITORY / "docs" / "scale-out.md").read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## )", text, re.S | re.M)
    assert section
    return re.findall(rf"```{language}\n(.*?)```", section.group(1), re.S)


def run(streamflow: Streamflow, statements: str) -> None:
    """Run statements one at a time, each in a transaction of its own."""
    for statement in filter(str.strip, statements.split(";")):
        streamflow.connection.execute(statement.encode())


def history_refuses_every_change(streamflow: Streamflow) -> None:
    """Assert that history refuses changes, on whichever nodes its rows are now."""
    for table in ("public.labels_snapshots", "history.labels_2024_01_31"):
        for change in (change for change in CHANGES if not change.endswith("where false")):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="stays as it was written"):
                streamflow.connection.execute(change.format(table, table).encode())


def by_itself(streamflow: Streamflow, *arguments: str | Path) -> None:
    """Run a command in a process of its own, in which dbt has not parsed the project for another database."""
    process = start(streamflow, *arguments)
    said = process.communicate()
    assert process.returncode == 0, said


LEDGER = ["ops.loads", "ops.audits", "ops.history", "ops.restatements", "ops.published"]


def test_a_database_is_moved_as_the_guide_says(
    server: Server, months: Path, streamflow: Streamflow, tmp_path: Path
) -> None:
    """The history of a single server, with a restated month, continues in a cluster as it does on that server."""
    server.make("old", "template1")
    folder = copy_month(months, "001", tmp_path / "again")
    set_value(folder / "labels.csv", 3, "churn_label", "")
    with contextlib.closing(connect(server, "old")) as connection:
        old = Streamflow({**environment(server, tmp_path / "target", tmp_path), "POSTGRES_DB": "old"}, connection)
        assert not old.on_citus
        again = ("--data-dir", tmp_path / "again", "--restate", "--reason", "wrong")
        for arguments in (("000", "--data-dir", months), ("001", "--data-dir", months), ("001", *again)):
            by_itself(old, "ingest", *arguments)
        uris = {name: f"postgresql://postgres@{server.host}:{server.port}/{name}" for name in ("old", "streamflow")}
        programs = embedded_server.programs(18 if connection.info.server_version >= 170_000 else 16)
        subprocess.run(
            ["sh", "-ec", documented("Moving a database", "shell")[0]],
            env={"PATH": f"{programs}:{os.defpath}", "OLD": uris["old"], "NEW": uris["streamflow"]},
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        streamflow.ok("init")
        assert streamflow.ok("verify").code == 0
        assert streamflow.state() == old.state()
        kept = streamflow.value("select kept_in from ops.restatements")
        for table in (*LEDGER, kept):
            query = f"select * from {table} as t order by t::text"
            assert streamflow.rows(query) == old.rows(query)
        test_every_table_is_spread_by_customer_and_beside_the_others(streamflow)
        history_refuses_every_change(streamflow)
        streamflow.ok("ingest", "002", "--data-dir", months)
        by_itself(old, "ingest", "002", "--data-dir", months)
        assert streamflow.state() == old.state()
        assert streamflow.ok("verify").code == 0


def test_a_worker_leaves_and_another_comes_as_the_guide_says(
    january: Streamflow, months: Path, undisturbed: Any
) -> None:
    """Rows move to the remaining workers, and spread again when the worker is back."""

    def places() -> set[int]:
        return {port for (port,) in january.rows("select distinct nodeport from citus_shards")}

    both = places()
    assert len(both) > 1
    [(host, port)] = january.rows(
        "select nodename, nodeport from pg_dist_node where groupid <> 0 and shouldhaveshards order by nodeid limit 1"
    )
    january.connection.execute("set statement_timeout = '2min'")
    node = f"'{host}', {port}"
    run(
        january,
        f"""
        select citus_drain_node({node}, shard_transfer_mode => 'block_writes');
        call citus_cleanup_orphaned_resources();
        select citus_remove_node({node});
    """,
    )
    assert places() == both - {port}
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed
    run(
        january,
        f"""
        select citus_add_node({node});
        select citus_rebalance_start(shard_transfer_mode => 'block_writes');
        select citus_rebalance_wait();
    """,
    )
    assert places() == both
    assert january.state() == undisturbed
    history_refuses_every_change(january)
    january.ok("verify")
    january.ok("ingest", "002", "--data-dir", months)
    january.ok("verify")
