"""A Citus cluster: customers are spread over the nodes, work is done where their rows are, and a node may fail."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loader.server import _pgserver
from tests.conftest import CITUS_URI, REPOSITORY, TABLES, Streamflow, environment
from tests.files import copy_month, set_value
from tests.pauses import paused
from tests.servers import Server, connect
from tests.test_gate import land_only

pytestmark = pytest.mark.skipif(CITUS_URI is None, reason="STREAMFLOW_TEST_CITUS_URI names no cluster")

STATEMENT = re.compile(r"\[debug\] \[[^\]]*\]: On (\S+): (.*?)(?=\n[^\n]*\d\d:\d\d:\d\d\.\d+ \[|\Z)", re.S)
AUDIT = re.compile(r"with verdict_1 as \((.*)\),\s+recorded as", re.S)
CHECKSUM = re.compile(r"\((select coalesce\(sum\(hash_record_extended.*?from [^)]*)\)", re.S)
WRITE = re.compile(r"((?:merge into|insert into \S*\"history\"\.).*)", re.S)
SIZE = r"{}: (\d+) (bytes|kB|MB)"
FEW_BYTES = 2_000
"""What a few sums take, however many customers there are; a month of 7,043 takes hundreds of times as much."""


@pytest.fixture(scope="module")
def sent(server: Server, dbt_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """What dbt sends while it audits and publishes the second of two months of 7,043 customers."""
    server.make("streamflow")
    with contextlib.closing(connect(server, "streamflow")) as connection:
        folder = tmp_path_factory.mktemp("sent")
        streamflow = Streamflow(environment(server, dbt_target, folder), connection)
        streamflow.ok("ingest", "000")
        land_only(streamflow, REPOSITORY / "seeds_data" / "month_001", 1)
        result = streamflow.dbt("build", "--log-level-file", "debug")
        assert result.success, result.exception
        log = (folder / "logs" / "dbt.log").read_text()
        comments = re.compile(r"/\*.*?\*/", re.S)
        yield Sent(streamflow, [comments.sub("", text).strip() for _, text in STATEMENT.findall(log)])


@dataclass(frozen=True)
class Sent:
    """Statements, and the database that they were sent to."""

    streamflow: Streamflow
    statements: list[str]

    def parts(self, pattern: re.Pattern[str]) -> list[str]:
        """What a pattern finds in them."""
        return [found.rstrip("; \n") for text in self.statements for found in pattern.findall(text)]

    def plan(self, query: str, options: str = "costs off") -> str:
        """The plan of a query."""
        return "\n".join(line for (line,) in self.streamflow.rows(f"explain ({options}) {query}".replace("%", "%%")))


def size(plan: str, what: str) -> int:
    """Bytes that a plan's steps came to, all in all."""
    units = {"bytes": 1, "kB": 1024, "MB": 1 << 20}
    return sum(int(number) * units[unit] for number, unit in re.findall(SIZE.format(what), plan))


def to_the_coordinator(plan: str) -> int:
    """Bytes of rows that the nodes sent to the coordinator, or it to them."""
    return size(plan, "Tuple data received from nodes") + size(plan, "Intermediate Data Size")


def test_history_and_production_are_written_where_the_rows_are(sent: Sent) -> None:
    writes = sent.parts(WRITE)
    assert len([text for text in writes if text.startswith("insert")]) == len(TABLES)
    assert len([text for text in writes if text.startswith("merge")]) == len(TABLES)
    for write in writes:
        plan = sent.plan(write)
        assert plan.startswith("Custom Scan (Citus Adaptive)"), plan
        assert "Distributed Subplan" not in plan, plan


def test_audits_and_checksums_send_the_coordinator_sums(sent: Sent) -> None:
    audits, checksums = sent.parts(AUDIT), sent.parts(CHECKSUM)
    assert len(audits) > 40
    assert len(checksums) == len(TABLES)
    plans = {query: sent.plan(query, "analyze, costs off") for query in [*audits, *checksums]}
    for query, plan in plans.items():
        assert to_the_coordinator(plan) < FEW_BYTES, f"{query}\n{plan}"
    assert all(to_the_coordinator(plans[query]) for query in checksums), "the plans no longer say what is sent"


def test_a_training_set_is_joined_where_the_rows_are(sent: Sent) -> None:
    query = "select * from training_set where as_of = '2024-01-31' and label_as_of = '2024-02-29'"
    plan = sent.plan(query, "analyze, costs off")
    assert size(plan, "Intermediate Data Size") < FEW_BYTES, plan
    assert size(plan, "Tuple data received from nodes") > FEW_BYTES, "the rows themselves"


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
    """Commands that kill one worker and bring it back; it is back afterwards in any case."""
    commands = [os.environ.get(f"STREAMFLOW_TEST_CITUS_WORKER_{way}") for way in ("DOWN", "UP")]
    if not all(commands):
        pytest.skip("STREAMFLOW_TEST_CITUS_WORKER_DOWN and _UP name no commands that kill a worker and bring it back")

    def run(command: str | None) -> None:
        subprocess.run(shlex.split(str(command)), check=True, capture_output=True)

    yield lambda way: run(commands[way])
    run(commands[1])


@pytest.mark.parametrize("point", ["audits", "last history", "last merge"])
def test_a_worker_is_killed(
    january: Streamflow, months: Path, undisturbed: Any, worker: Callable[[int], None], point: str
) -> None:
    before = january.production()
    with paused(january, point, "ingest", "001", "--data-dir", months) as run:
        worker(0)
    assert run.process.returncode == 3, run.said
    assert "Traceback" not in run.said[1]
    worker(1)
    assert january.production() == before
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed
    january.ok("verify")


@contextlib.contextmanager
def left_behind(server: Server) -> Iterator[str]:
    """What a worker has that failed between the coordinator's commit and its own; yields the worker's name."""
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
        with paused(january, "last merge", "ingest", "001", "--data-dir", months) as run:
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
    assert f"nothing was changed: {node} cannot be reached, or has yet to finish" in result.err
    assert january.state() == before
    january.ok("ingest", "001", "--data-dir", months)


def documented(heading: str, language: str) -> list[str]:
    """The blocks of a section of the guide."""
    text = (REPOSITORY / "docs" / "scale-out.md").read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## )", text, re.S | re.M)
    assert section
    return re.findall(rf"```{language}\n(.*?)```", section.group(1), re.S)


def run(streamflow: Streamflow, statements: str) -> None:
    """One at a time, each in a transaction of its own."""
    for statement in filter(str.strip, statements.split(";")):
        streamflow.connection.execute(statement.encode())


LEDGER = ["loads", "audits", "history", "restatements", "published"]


def test_a_database_is_moved_as_the_guide_says(
    server: Server, months: Path, streamflow: Streamflow, tmp_path: Path
) -> None:
    """One PostgreSQL's history, a restated month in it, goes on in a cluster as it would have gone on where it was."""
    server.make("old", "template1")
    folder = copy_month(months, "001", tmp_path / "again")
    set_value(folder / "labels.csv", 3, "churn_label", "")
    with contextlib.closing(connect(server, "old")) as connection:
        old = Streamflow({**environment(server, tmp_path / "target", tmp_path), "POSTGRES_DB": "old"}, connection)
        assert not old.on_citus
        for month in ("000", "001"):
            old.ok("ingest", month, "--data-dir", months)
        old.ok("ingest", "001", "--data-dir", tmp_path / "again", "--restate", "--reason", "wrong")
        uris = {name: f"postgresql://postgres@{server.host}:{server.port}/{name}" for name in ("old", "streamflow")}
        programs = Path(_pgserver().utils.POSTGRES_VERSIONS[18])
        subprocess.run(
            ["sh", "-ec", documented("Moving a database", "shell")[0]],
            env={"PATH": f"{programs}:{os.defpath}", "OLD": uris["old"], "NEW": uris["streamflow"]},
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        streamflow.ok("init")
        assert streamflow.ok("verify").code == 0
        assert streamflow.state() == old.state()
        for table in LEDGER:
            assert streamflow.table(f"ops.{table}") == old.table(f"ops.{table}")
        kept = streamflow.value("select kept_in from ops.restatements")
        assert streamflow.table(kept) == old.table(kept)
        test_every_table_is_spread_by_customer_and_beside_the_others(streamflow)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            streamflow.connection.execute("delete from history.labels_2024_01_31")
        for streamflow_there in (streamflow, old):
            streamflow_there.ok("ingest", "002", "--data-dir", months)
        assert streamflow.state() == old.state()
        assert streamflow.ok("verify").code == 0


def test_a_worker_leaves_and_another_comes_as_the_guide_says(
    january: Streamflow, months: Path, undisturbed: Any
) -> None:
    """Rows move to the node that is left, and back when there are two."""

    def places() -> set[int]:
        return {port for (port,) in january.rows("select distinct nodeport from citus_shards")}

    both = places()
    assert len(both) > 1
    [(host, port)] = january.rows(
        "select nodename, nodeport from pg_dist_node where groupid <> 0 and shouldhaveshards order by nodeid limit 1"
    )
    january.connection.execute("set statement_timeout = '2min'")
    comes, goes = (text.replace("'worker-3', 5432", f"'{host}', {port}") for text in documented("More nodes", "sql"))
    run(january, goes)
    assert places() == both - {port}
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed
    run(january, comes)
    assert places() == both
    assert january.state() == undisturbed
    january.ok("verify")
    january.ok("ingest", "002", "--data-dir", months)
    january.ok("verify")
