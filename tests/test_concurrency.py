"""Several at once: one run at a time, whoever began it, and readers who neither wait nor see half of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import TABLES, Streamflow
from tests.files import copy_month, edit
from tests.pauses import paused
from tests.servers import connect
from tests.test_gate import land_only, statuses

FEBRUARY = "2024-02-29"


def newest_in(streamflow: Streamflow, tables: list[str]) -> set[str]:
    """The newest observed_as_of of each table, in one statement."""
    columns = ", ".join(f"(select max(observed_as_of)::text from {table})" for table in tables)
    return set(streamflow.rows(f"select {columns}")[0])


def said(result: Any) -> str:
    """What dbt says of a run that failed."""
    return f"{result.exception} {[node.message for node in getattr(result.result, 'results', [])]}"


@pytest.mark.parametrize(
    "point", ["audits", "last merge", *(pytest.param(p, marks=pytest.mark.long) for p in ("landing", "first history"))]
)
def test_while_a_month_is_being_ingested(january: Streamflow, months: Path, point: str) -> None:
    """Readers neither wait nor see a part of it, and nobody else may begin; then it is there, in all tables at once."""
    january.connection.execute("set statement_timeout = '5s'")
    production, history = january.state()
    with paused(january, point, "ingest", "001", "--data-dir", months) as first:
        assert newest_in(january, TABLES) == {"2024-01-31"}
        assert january.production() == production
        assert all(set(january.history()[table]) >= set(history[table]) for table in TABLES)
        assert january.rows("select as_of::text from ops.published") == [("2024-01-31",)]

        second = january("ingest", "002", "--data-dir", months)
        assert second.code == 3
        assert "ingest of month 001, begun by " in second.err
        assert f"(process {first.process.pid})" in second.err
        by_hand = january.dbt("build")
        assert not by_hand.success
        assert "an ingest or a check is under way" in said(by_hand)
    assert newest_in(january, TABLES) == {FEBRUARY}
    assert january.rows("select as_of::text from ops.published order by 1") == [("2024-01-31",), (FEBRUARY,)]
    assert january("verify").code == 0


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


def test_an_ingest_is_refused_during_a_step_of_dbt_by_hand(january: Streamflow, months: Path) -> None:
    land_only(january, months / "month_001", 1)
    with paused(january, "last merge", "dbt", "build", "--quiet") as by_hand:
        result = january("ingest", "002", "--data-dir", months)
        assert result.code == 3
        assert "dbt run by hand by postgres" in result.err
    assert by_hand.process.returncode == 0
    assert january.value("select max(as_of)::text from ops.published") == FEBRUARY
    january.ok("ingest", "002", "--data-dir", months)


def test_an_ingest_between_two_steps_of_dbt_by_hand(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """What dbt found at the gate is not built from what an ingest has landed since."""
    land_only(january, months / "month_001", 1)
    assert january.dbt("test").success
    assert january.dbt("run", "--select", "gate").success
    january.ok("check", "002", "--data-dir", months)
    before = january.state()
    assert january.dbt("run", "--exclude", "gate").success
    assert january.state() == before


def test_dbt_stops_when_its_ingest_has_lost_the_lock(january: Streamflow, months: Path) -> None:
    land_only(january, months / "month_001", 1)
    assert january.dbt("test").success
    january.environment["STREAMFLOW_LOCK_HOLDER"] = str(january.connection.info.backend_pid)
    result = january.dbt("run")
    assert not result.success
    assert "lost its connection" in said(result)
    january.connection.execute("select pg_advisory_lock(%s, %s)", [0x5F10, 1])
    result = january.dbt("run")
    assert result.success, said(result)


def test_half_a_month_is_not_published_by_hand(january: Streamflow, months: Path) -> None:
    land_only(january, months / "month_001", 1)
    assert january.dbt("test").success
    assert january.dbt("run", "--select", "gate", "users_snapshots").success
    before = january.production()
    result = january.dbt("run", "--select", "published")
    assert "history of 2024-02-29 was begun and not finished" in said(result)
    assert statuses(january.dbt("run", "--select", "users", "--full-refresh")) == {"users": "success"}
    assert january.production() == before


def test_a_month_that_was_cut_off_may_come_corrected(january: Streamflow, months: Path, tmp_path: Path) -> None:
    land_only(january, months / "month_001", 1)
    assert january.dbt("test").success
    assert january.dbt("run", "--select", "gate", "users_snapshots", "labels_snapshots").success
    folder = copy_month(months, "001", tmp_path)
    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: rows.__delitem__(8))
    january.ok("ingest", "001", "--data-dir", tmp_path)
    assert january.value("select count(*) from ops.restatements") == 0
    assert january.value("select count(*) from pg_tables where schemaname = 'restated'") == 0
    assert january("verify").code == 0
    delivered = january.value("select count(*) from staging.users")
    assert january.value(f"select count(*) from users where observed_as_of = '{FEBRUARY}'") == delivered
    with pytest.raises(psycopg.errors.UndefinedTable):
        january.rows("select * from history.users_2024_02_29")
    assert january.value("select count(*) from history.payments_agg_90d_2024_02_29") > 0
