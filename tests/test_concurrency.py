"""Sessions at the same time: one run at a time, and readers who neither wait nor see half a month."""

from __future__ import annotations

import contextlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loader.database import Database, retries, run_lock
from loader.delivery import Delivery
from loader.landing import land
from loader.readers import lookups, report_columns, report_numbers
from tests.conftest import TABLES, Streamflow
from tests.files import copy_month, edit, set_value
from tests.pauses import PATIENCE, Paused, paused, start, waiting_for
from tests.servers import connect
from tests.test_crashes import wait_until
from tests.test_gate import land_only, published, statuses

FEBRUARY = "2024-02-29"


def newest_in(streamflow: Streamflow, tables: list[str]) -> set[str]:
    """The newest observed_as_of of each table, in one statement."""
    columns = ", ".join(f"(select max(observed_as_of)::text from {table})" for table in tables)
    return set(streamflow.rows(f"select {columns}")[0])


def said(result: Any) -> str:
    """What dbt says of a run that failed."""
    return f"{result.exception} {[node.message for node in getattr(result.result, 'results', [])]}"


def shown_by_views(streamflow: Streamflow) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of `latest` and of every mart."""
    views = streamflow.rows(
        "select format('%%I.%%I', schemaname, viewname) from pg_views"
        " where schemaname in ('public', 'latest') and viewname not like 'citus%%'"
    )
    return {view: sorted(streamflow.rows(f"select * from {view}"), key=str) for (view,) in views}


@pytest.mark.parametrize(
    "point",
    ["last merge", *(pytest.param(p, marks=pytest.mark.long) for p in ("first history", "last history"))],
)
def test_while_a_month_is_being_ingested(january: Streamflow, months: Path, point: str) -> None:
    """Readers do not wait, `latest` shows no part of the month, no other run may begin; then the month is there."""
    january.connection.execute("set statement_timeout = '5s'")
    marts, labels, history = shown_by_views(january), january.table("labels"), january.history()
    with paused(january, point, "ingest", "001", "--data-dir", months) as first:
        assert shown_by_views(january) == marts
        assert point != "last merge" or newest_in(january, ["users"]) == {FEBRUARY}
        assert january.production()["labels"] == labels, "labels are merged last"
        assert all(set(january.history()[table]) >= set(history[table]) for table in TABLES)
        assert published(january) == ["2024-01-31"]

        second = january("ingest", "002", "--data-dir", months)
        assert second.code == 3
        assert "ingest of month 001, begun by " in second.err
        assert f"(process {first.process.pid})" in second.err
        by_hand = january.dbt("build")
        assert not by_hand.success
        assert "an ingest or a check is under way" in said(by_hand)
    assert newest_in(january, TABLES) == {FEBRUARY}
    assert published(january) == ["2024-01-31", FEBRUARY]
    assert january("verify").code == 0


def test_dbt_by_hand_is_told_of_another_run_as_it_begins(january: Streamflow, months: Path) -> None:
    """Staging may hold parts of two months meanwhile: an audit of it can fail for no reason, and is no verdict."""
    land_only(january, months / "month_001", 1)
    january.connection.execute("select pg_advisory_lock(%s, %s)", run_lock())
    result = january.dbt("build")
    assert result.result is None, "no node ran"
    assert "an ingest or a check is under way" in str(result.exception)
    assert january.value("select count(*) from ops.audits where load_id = (select max(load_id) from ops.loads)") == 0
    january.connection.execute("select pg_advisory_unlock(%s, %s)", run_lock())
    assert january.dbt("build").success


def test_a_reader_in_a_transaction_keeps_his_month(january: Streamflow, months: Path) -> None:
    """A repeatable read transaction sees the month that was there when it began, in every table, to its end."""
    if january.on_citus:
        pytest.skip("its nodes share no snapshot, so a month waits for the end of readers")
    with contextlib.closing(connect(january.environment, "streamflow")) as connection, connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        reader = Streamflow(january.environment, connection)
        before = reader.production()
        january.ok("ingest", "001", "--data-dir", months)
        assert reader.production() == before
    assert january.production() != before


@pytest.mark.long
def test_an_ingest_is_refused_during_a_step_of_dbt_by_hand(january: Streamflow, months: Path) -> None:
    land_only(january, months / "month_001", 1)
    with paused(january, "last merge", "dbt", "build", "--quiet") as by_hand:
        result = january("ingest", "002", "--data-dir", months)
        assert result.code == 3
        assert "dbt run by hand by postgres" in result.err
    assert by_hand.process.returncode == 0
    assert january.value("select max(as_of)::text from ops.published") == FEBRUARY
    january.ok("ingest", "002", "--data-dir", months)


def test_a_vacuum_of_an_old_partition_does_not_hold_a_month_up(january: Streamflow, months: Path) -> None:
    if january.on_citus:
        pytest.skip("its nodes lock every partition with its table")
    january.connection.execute("alter database streamflow set lock_timeout = '20s'")
    with contextlib.closing(connect(january.environment, "streamflow")) as other, other.transaction():
        other.execute("lock table history.users_2024_01_31 in share update exclusive mode")
        january.ok("ingest", "001", "--data-dir", months)


def test_dbt_in_another_database_of_the_server_is_not_named(january: Streamflow, months: Path) -> None:
    with contextlib.closing(connect(january.environment, "postgres")) as other, other.transaction():
        other.execute("select pg_advisory_xact_lock_shared(%s, %s)", run_lock())
        assert "under way: nothing" in january.ok("status").out
        january.connection.execute("update ops.loads set state = 'running'")  # as if it had been killed
        january.connection.execute("select pg_advisory_lock(%s, %s)", run_lock())
        result = january("ingest", "001", "--data-dir", months)
        assert result.code == 3
        assert "another run is under way on this database: a run that has just begun" in result.err
        assert f"by postgres (server process {january.value('select pg_backend_pid()')})" in result.err
        january.connection.execute("select pg_advisory_unlock(%s, %s)", run_lock())
        january.ok("ingest", "001", "--data-dir", months)


@pytest.mark.long
def test_dbt_that_waited_while_months_were_built_writes_nothing_of_what_it_read_before(
    january: Streamflow, months: Path
) -> None:
    """Before it waits, the model reads which months to merge: it would lose the late month that is built meanwhile."""
    january.ok("ingest", "002", "--data-dir", months)
    land_only(january, months / "month_001", 1)
    before = january.production()
    with paused(january, "first merge", "dbt", "run", "--select", "users") as late:
        assert january.dbt("build", "--select", "source:staging+", "--exclude", "users+").success
    assert late.process.returncode == 1
    assert "months were published or removed while this waited: run the command again" in late.said[0]
    assert january.production() == before
    assert january.dbt("build").success
    assert published(january) == ["2024-01-31", FEBRUARY, "2024-03-31"]
    january.ok("verify")


@pytest.mark.long
def test_history_is_not_built_on_months_that_have_gone_meanwhile(january: Streamflow, months: Path) -> None:
    land_only(january, months / "month_001", 1)
    assert january.dbt("build", "--select", "source:staging", "gate").success
    with paused(january, "first history", "dbt", "run", "--select", "users_snapshots") as late:
        january.connection.execute("create table kept as select * from ops.history where table_name = 'users'")
        january.connection.execute("delete from ops.history where table_name = 'users'")
    assert late.process.returncode == 1
    assert "months were published or removed while users waited: run the command again" in late.said[0]
    january.connection.execute("insert into ops.history select * from kept; drop table kept")
    assert january.dbt("build").success
    january.ok("verify")


@pytest.mark.long
def test_a_landing_between_two_steps_of_dbt_by_hand(january: Streamflow, months: Path) -> None:
    """A month that passed the gate is not built from rows that were landed later."""
    land_only(january, months / "month_001", 1)
    with paused(january, "first history", "dbt", "build", "--quiet") as by_hand:
        by_hand.process.kill()
    wait_until(january, "select count(*) = 0 from pg_locks where locktype = 'advisory'")
    january.ok("check", "002", "--data-dir", months)
    before = january.state()
    assert january.dbt("run", "--exclude", "gate").success
    assert january.state() == before


def test_a_landing_that_a_reader_of_staging_holds_up_gives_up(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staging then holds parts of two months: dbt by hand publishes none of it, and the same ingest works later."""
    monkeypatch.setattr("loader.landing.copy.PATIENCE", "1ms")
    before = january.state()
    with contextlib.closing(connect(january.environment, "streamflow")) as reader, reader.transaction():
        reader.execute("select from staging.payments_agg_90d")
        result = january("ingest", "001", "--data-dir", months)
        assert result.code == 3
        assert "staging.payments_agg_90d is being read by another session: try again" in result.err
        assert not january.dbt("build").success
        assert january.state() == before
    monkeypatch.undo()
    january.ok("ingest", "001", "--data-dir", months)
    assert published(january) == ["2024-01-31", FEBRUARY]


def test_a_landing_that_has_lost_its_lock_leaves_the_staging_of_another_run(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a long pause: the other run would publish these rows under the hashes of its own files."""
    staged: list[list[Any]] = []

    def late(database: Database, delivery: Delivery, *arguments: Any) -> Any:
        if staged:
            return land(database, delivery, *arguments)
        january.connection.execute("update ops.loads set state = 'interrupted' where state = 'running'")  # it begins so
        staged.append(january.table("staging.labels"))
        with pytest.raises(retries.ConnectionLost, match="another run has begun since"):
            land(database, delivery, *arguments)
        assert january.table("staging.labels") == staged[0] != []
        raise retries.ConnectionLost("lost")

    monkeypatch.setattr("loader.pipeline.run.land", late)
    result = january.ok("ingest", "001", "--data-dir", months)
    assert "beginning again" in result.err
    assert published(january) == ["2024-01-31", FEBRUARY]


@pytest.mark.parametrize(
    "command",
    [
        ("training-set", "--as-of", "000", "--label-as-of", "000"),
        ("diff", "000", "000", "--json"),
        ("report", "000", "--json"),
    ],
    ids=["training-set", "diff", "report"],
)
def test_who_waits_for_a_restatement_reads_the_new_rows(january: Streamflow, command: tuple[str, ...]) -> None:
    """A snapshot from before it would show none: neither those of the old partition nor those of the new one."""
    if january.on_citus:
        pytest.skip("its partitions are not replaced by statements like these")
    before, _ = start(january, *command).communicate(timeout=PATIENCE)
    with (
        contextlib.closing(connect(january.environment, "streamflow")) as writer,
        contextlib.closing(connect(january.environment, "streamflow")) as watch,
        writer.transaction(),
    ):
        writer.execute("""
            alter table labels_snapshots detach partition history.labels_2024_01_31;
            create table history.restated (like history.labels_2024_01_31 including all);
            insert into history.restated select * from history.labels_2024_01_31;
            drop table history.labels_2024_01_31;
            alter table history.restated rename to labels_2024_01_31;
            alter table labels_snapshots attach partition history.labels_2024_01_31 for values in ('2024-01-31')
        """)
        reader = start(january, *command)
        waiting_for(writer, watch, reader, "the partition")
    out, err = reader.communicate(timeout=PATIENCE)
    assert (out, reader.returncode) == (before, 0), err


def test_nothing_is_restated_between_two_tables_of_a_customer(
    january: Streamflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restatement would show one table as it was before, and the next one as it is since."""
    if january.on_citus:
        pytest.skip("its partitions are not detached by statements like this")
    read, restated = lookups._rows, list[str]()
    with contextlib.closing(connect(january.environment, "streamflow")) as writer:
        writer.execute("set lock_timeout = '100ms'")

        def reading(connection: Any, asked: str, table: Any) -> Any:
            with contextlib.suppress(psycopg.errors.LockNotAvailable), writer.transaction(force_rollback=True):
                writer.execute("alter table labels_snapshots detach partition history.labels_2024_01_31")
                restated.append(table.name)
            return read(connection, asked, table)

        monkeypatch.setattr(lookups, "_rows", reading)
        user = january.value("select min(user_id) from users")
        assert len(january.ok("history", user, "--json").json["tables"]) == 6
    assert restated == []


@pytest.mark.long
def test_a_restatement_that_waits_for_a_reader_holds_up_no_other(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    set_value(copy_month(months, "000", tmp_path) / "labels.csv", 2, "churn_label", "")
    restatement = ("ingest", "000", "--data-dir", tmp_path, "--restate", "--reason", "why")
    with paused(january, "restating", *restatement) as run:
        january.connection.execute("set lock_timeout = '10s'")
        assert january.value("select count(*) from labels_snapshots") > 0
    assert run.process.returncode == 0, run.said
    january.ok("verify")


def test_a_report_lets_a_restatement_through_that_waits_for_it(
    january: Streamflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    if january.on_citus:
        pytest.skip("its partitions are not detached by statements like this")
    read, detach = (
        report_columns.read_columns,
        "alter table labels_snapshots detach partition history.labels_2024_01_31",
    )
    with (
        contextlib.closing(connect(january.environment, "streamflow")) as writer,
        ThreadPoolExecutor(1) as thread,
    ):
        waiting: list[Any] = []

        def reading(*arguments: Any) -> Any:
            if not waiting:
                writer.execute("begin")
                waiting.append(thread.submit(writer.execute, f"{detach}; rollback".encode()))
                query = "select cardinality(pg_blocking_pids(%s)) > 0"
                wait_until(january, query.replace("%s", str(writer.info.backend_pid)))
            return read(*arguments)

        monkeypatch.setattr(report_numbers, "read_columns", reading)
        assert january.ok("report", "000", "--json").json["report"]["customers"]
        waiting[0].result(PATIENCE)


def test_a_landing_while_audits_run_keeps_the_gate_shut(january: Streamflow, months: Path) -> None:
    """The audits of a run count only for the load that staging held when the run began."""
    land_only(january, months / "month_001", 1)
    before = january.state()
    january.connection.execute("""
        create function public.land_another() returns trigger language plpgsql as $$
        begin
            update ops.staged set load_id = (select min(load_id) from ops.loads);
            return null;
        end
        $$
    """)
    january.connection.execute("create trigger another after insert on ops.runs execute function public.land_another()")
    result = january.dbt("build")
    assert statuses(result)["gate"] == "error"
    assert "staging was landed again while its audits ran" in said(result)
    assert january.state() == before


@pytest.mark.long
def test_dbt_stops_when_its_ingest_has_lost_the_lock(january: Streamflow, months: Path, undisturbed: Any) -> None:
    """Another run may hold the lock by then. The ingest begins again by itself."""
    with paused(january, "last history", "ingest", "001", "--data-dir", months) as run:
        ended = january.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'streamflow'"
        )
        assert set(ended) == {(True,)}
    assert run.process.returncode == 0
    assert "beginning again in" in run.said[1]
    log = Path(january.environment["STREAMFLOW_HOME"]) / "logs" / "dbt.log"
    assert "lost its connection to the database, and its lock with it" in log.read_text()
    assert january.state() == undisturbed


@pytest.mark.long
def test_half_a_month_is_not_published_by_hand(january: Streamflow, months: Path) -> None:
    half_built(january, months)
    before = january.production()
    for command in (
        ("run", "--select", "published"),
        ("run", "--select", "complete_months+"),
        ("run", "--select", "users"),
    ):
        assert january.dbt(*command).success
        assert january.production() == before
        assert published(january) == ["2024-01-31"]
    assert january.dbt("build").success
    assert published(january) == ["2024-01-31", FEBRUARY]


def half_built(streamflow: Streamflow, months: Path) -> None:
    """Land February, and build its history in some tables only."""
    land_only(streamflow, months / "month_001", 1)
    streamflow.connection.execute("create table history.labels_2024_02_29 ()")
    assert not streamflow.dbt("build").success
    streamflow.connection.execute("drop table history.labels_2024_02_29")
    assert streamflow.value("select count(*) between 1 and 5 from ops.history where as_of = '2024-02-29'")


@pytest.mark.long
def test_a_month_that_was_cut_off_may_come_corrected(january: Streamflow, months: Path, tmp_path: Path) -> None:
    half_built(january, months)
    folder = copy_month(months, "001", tmp_path)
    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: rows.__delitem__(8))
    january.ok("ingest", "001", "--data-dir", tmp_path)
    assert january.value("select count(*) from ops.restatements") == 0
    assert january.value("select count(*) from pg_tables where schemaname = 'restated'") == 0
    assert january("verify").code == 0
    delivered = january.value("select count(*) from staging.users")
    assert january.value(f"select count(*) from users where observed_as_of = '{FEBRUARY}'") == delivered


@pytest.mark.long
def test_a_whole_month_that_comes_corrected_is_a_restatement(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """Once all tables have its history, a month counts as published: the next ingest publishes it first."""
    with paused(january, "first merge", "ingest", "001", "--data-dir", months) as run:
        run.process.kill()
        run.process.wait(PATIENCE)
    assert {month["state"] for month in january.ok("status", "--json").json} == {"published", "not finished"}
    folder = copy_month(months, "001", tmp_path)
    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: rows.__delitem__(8))
    refused = january("ingest", "001", "--data-dir", tmp_path)
    assert refused.code == 1
    assert "month 001 was begun for 2024-02-29, with other rows, and is published now" in refused.err
    assert published(january) == ["2024-01-31", FEBRUARY]
    january.ok("ingest", "001", "--data-dir", tmp_path, "--restate", "--reason", "corrected")
    assert january("verify").code == 0


def names_who_blocks(streamflow: Streamflow, run: Paused) -> None:
    """The waiting run and the doctor both name the session that holds the lock."""
    told = next(line for line in run.process.stderr if "waiting for" in line)
    session = r"waiting for session \d+ of postgres \(the reader(, [\d.]+)?\), which has a lock on (public\.)?\w+"
    assert re.search(session, told), told
    assert "idle in transaction, its transaction begun at 20" in told
    assert re.search(r"select pg_terminate_backend\(\d+\)$", told.strip()), told
    findings = streamflow.ok("doctor", "--json").json["findings"]
    [found] = [one for one in findings if one["check"] == "locks"]
    assert found["level"] == "warning"
    assert "session" in found["message"]
    assert "pg_terminate_backend" in found["remedy"]


@pytest.mark.long
@pytest.mark.parametrize("point", ["last history", "landing"])
def test_who_holds_a_lock_that_an_ingest_waits_for_is_named(january: Streamflow, months: Path, point: str) -> None:
    with paused(january, point, "ingest", "001", "--data-dir", months, application_name="the reader") as run:
        names_who_blocks(january, run)
    assert run.process.returncode == 0


@pytest.mark.long
def test_a_reader_of_empty_tables_is_named_where_their_keys_are_built(streamflow: Streamflow, months: Path) -> None:
    """There is no time limit: the first month goes on once the reader has ended, and loses nothing."""
    streamflow.ok("init")
    with paused(streamflow, "keys", "ingest", "000", "--data-dir", months, application_name="the reader") as run:
        names_who_blocks(streamflow, run)
    assert run.process.returncode == 0
    assert published(streamflow) == ["2024-01-31"]
