"""A month that was begun can be given up: the state before it stands, and no later run publishes it by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Streamflow
from tests.files import copy_month, set_value
from tests.servers import connect
from tests.stops import stopped
from tests.test_doctor import found
from tests.test_gate import land_only, published
from tests.test_migrate import Declare, declaring  # noqa: F401 (a fixture)

REASON = ("--restate", "--reason", "the export was cut")


@contextmanager
def last_history_fails(streamflow: Streamflow, partition: str) -> Iterator[None]:
    """Inside the block, a build fails at the last history table."""
    streamflow.connection.execute(f"create table history.{partition} ()".encode())
    yield
    streamflow.connection.execute(f"drop table history.{partition}".encode())


def restatement_cut_off(streamflow: Streamflow, table: str, month: str, folder: Path) -> None:
    """Restate a month, and stop when production of a table takes it in: other tables may have it already."""
    with stopped(streamflow, "merge", [table]):
        assert streamflow("ingest", month, "--data-dir", folder, *REASON).code == 3


def half_built(streamflow: Streamflow, months: Path) -> None:
    """Begin February: only some tables get its history."""
    with last_history_fails(streamflow, "labels_2024_02_29"):
        assert streamflow("ingest", "001", "--data-dir", months).code == 3
    assert streamflow.value("select count(*) between 1 and 5 from ops.history where as_of = '2024-02-29'")


def test_a_begun_month_is_given_up(
    january: Streamflow, months: Path, tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = january.state()
    half_built(january, months)
    user = january.value("select min(user_id) from users")
    shown = january.ok("history", user, "--json").json["tables"]
    assert {state["as_of"] for one in shown for state in one["states"]} == {"2024-01-31"}, "February is not published"
    [(level, text)] = found(january.ok("doctor", "--json"), "months")
    assert level == "warning"
    ways = f"streamflow ingest 001 --data-dir {months}, or streamflow dbt build; or give it up: streamflow abandon 001"
    assert text.endswith(ways)
    assert "or give it up: streamflow abandon 001" in january.ok("status").out
    assert "1 warning" in january.ok("doctor").out
    with contextlib.closing(connect(january.environment, "streamflow")) as reader, reader.transaction():
        reader.execute("select from users_snapshots")
        monkeypatch.setattr("loader.upkeep.history.PATIENCE", "1ms")
        refused = january("abandon", "001")
        assert (refused.code, "month 001 is not given up: a table is in use" in refused.err) == (3, True)
        monkeypatch.undo()
    assert len(january.ok("abandon", "001", "--json").json["tables"]) in range(1, 6)
    assert january.state() == before
    half_built(january, months)
    land_only(january, months / "month_002", 2)
    assert january.state() == before, "another month that lands gives it up, too"
    assert january.ok("abandon", "001", "--json").json["tables"] == []
    assert january.value("select count(*) from pg_tables where schemaname = 'history'") == 6
    assert january.value("select count(*) from ops.staged where as_of = '2024-03-31'") == 6, "which is another's"
    assert "is as it was before it was begun" in january.ok("abandon", "002").out, "landed is begun too"
    states = [month["state"] for month in january.ok("status", "--json").json]
    assert states == ["published", "abandoned", "abandoned"]
    assert found(january.ok("doctor", "--json"), "months") == [("ok", "1 published, none left unfinished: ")]
    set_value(copy_month(months, "002", tmp_path) / "labels.csv", 2, "user_id", "stranger")
    assert january("ingest", "002", "--data-dir", tmp_path).code == 1
    january.ok("abandon", "002")
    assert january.dbt("build").success
    assert published(january) == ["2024-01-31"], "what was landed is not built after all"
    january.ok("verify")
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed
    january.ok("verify")


@pytest.mark.long
def test_a_restatement_that_was_cut_off_is_given_up(
    restated: tuple[Streamflow, Path], months: Path, tmp_path: Path, declare: Declare
) -> None:
    """What was published comes back, even if a column was added or changed its type meanwhile."""
    streamflow, manifest = restated
    state, kept = streamflow.state(), streamflow.rows("select * from ops.restatements")
    folder = copy_month(months, "001", tmp_path)
    set_value(folder / "usage_agg_30d.csv", 5, "watch_hours_30d", "7.25")
    load = streamflow.value("select max(load_id) + 1 from ops.loads")
    with last_history_fails(streamflow, f"labels_2024_02_29_load_{load}"):
        assert streamflow("ingest", "001", "--data-dir", tmp_path, *REASON).code == 3
    assert streamflow.value("select count(*) from ops.restatements where table_name = 'usage_agg_30d'") == 1
    ways = "with --restate, or streamflow dbt build; or give it up: streamflow abandon 001"
    assert ways in streamflow.ok("status").out
    assert "run `streamflow abandon 001`" in streamflow("ingest", "001", "--data-dir", tmp_path).err
    streamflow.connection.execute("alter table usage_agg_30d_snapshots add column later int")
    declare(usage_agg_30d__skips_7d={"data_type": "bigint"})
    assert "has a column later that is not declared, and no month has brought it" in streamflow("migrate").err
    streamflow.connection.execute("alter table usage_agg_30d_snapshots drop column later")
    streamflow.ok("migrate")
    streamflow.connection.execute("alter table usage_agg_30d_snapshots add column later int")
    assert "what was published stands" in streamflow.ok("abandon", "001").out
    streamflow.connection.execute("alter table usage_agg_30d_snapshots drop column later")
    assert streamflow.state() == state
    assert streamflow.rows("select * from ops.restatements") == kept
    streamflow.ok("verify", "--manifest", manifest)
    assert streamflow.value("select count(*) from pg_tables where schemaname in ('history', 'restated')") == 13


def test_a_restatement_that_took_a_customer_out_of_some_tables_is_given_up(
    february: Streamflow, months: Path, tmp_path: Path
) -> None:
    """The foreign keys of the tables that it did not get to have lost the customer's rows, too."""
    before = february.state()
    joined = "select user_id from users except select user_id from users_snapshots where as_of = '2024-01-31' limit 1"
    user = february.value(joined)
    for file in copy_month(months, "001", tmp_path).glob("*.csv"):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.startswith(f"{user},")))
    restatement_cut_off(february, "labels", "001", tmp_path)
    february.ok("abandon", "001")
    assert february.dbt("run", "--select", "complete_months+").success
    february.ok("verify")
    assert february.state() == before


@pytest.mark.long
def test_the_same_month_again_brings_production_back_after_a_restatement_was_given_up(
    february: Streamflow, months: Path, tmp_path: Path
) -> None:
    """Nothing was published by it, so it counts no row as inserted or updated."""
    before = february.state()
    set_value(copy_month(months, "001", tmp_path) / "users.csv", 2, "signup_date", "2020-01-01")
    set_value(tmp_path / "month_001" / "labels.csv", 2, "churn_label", "")
    restatement_cut_off(february, "labels", "001", tmp_path)
    assert "but production has yet to follow" in february.ok("abandon", "001").out
    again = february.ok("ingest", "001", "--data-dir", months, "--json").json
    assert "is published already" in again["message"]
    assert sum(one["inserted"] + one["updated"] for one in again["counts"]) == 0
    assert february.state() == before
    february.ok("verify")


@pytest.mark.long
def test_two_restatements_that_were_cut_off_are_given_up(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """What the first one put aside is what stands in the end, in the only month there is."""
    before = january.state()
    folder = copy_month(months, "000", tmp_path)
    for table, date in ("users", "2020-01-01"), ("labels", "2020-02-02"):
        set_value(folder / "users.csv", 2, "signup_date", date)
        set_value(folder / "labels.csv", 2 if table == "users" else 3, "churn_label", "")
        restatement_cut_off(january, table, "000", tmp_path)
    assert "but production has yet to follow" in january.ok("abandon", "000").out
    assert january.dbt("run", "--select", "complete_months+").success
    january.ok("verify")
    assert january.state() == before


def test_a_published_restatement_stands_on_one_that_was_cut_off(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """It left alone what was the same in its files as in those of the first one."""
    folder = copy_month(months, "000", tmp_path)
    set_value(folder / "users.csv", 2, "signup_date", "2020-01-01")
    set_value(folder / "labels.csv", 2, "churn_label", "")
    restatement_cut_off(january, "labels", "000", tmp_path)
    set_value(folder / "labels.csv", 3, "churn_label", "")
    january.ok("ingest", "000", "--data-dir", tmp_path, *REASON)
    restated = january.state()
    assert "month 000 is published" in january("abandon", "000").err
    assert january.state() == restated
    january.ok("verify")


@pytest.mark.long
def test_a_restatement_on_which_a_later_month_was_built_is_not_given_up_before_it(
    february: Streamflow, months: Path, tmp_path: Path
) -> None:
    """Nor is a second restatement that has replaced it since."""
    history = ("build", "--exclude", "path:models/production+")
    for hours, later in (("7.25", 2), ("8.25", None)):
        folder = copy_month(months, "001", tmp_path / hours)
        set_value(folder / "usage_agg_30d.csv", 5, "watch_hours_30d", hours)
        land_only(february, folder, 1, restates=hours)
        assert february.dbt(*history).success
        if later:
            land_only(february, months / f"month_{later:03d}", later)
            assert february.dbt(*history).success
        assert "2024-03-31 was built on month 001: abandon the later one first" in february("abandon", "001").err
    for month in ("002", "001"):
        february.ok("abandon", month)
    february.ok("ingest", "002", "--data-dir", months)
    february.ok("verify")
    assert february.value("select count(*) from usage_agg_30d_snapshots where watch_hours_30d in (7.25, 8.25)") == 0


def test_what_is_not_given_up(january: Streamflow) -> None:
    """A published month, a month that was never begun, and any month while another run is under way."""
    before = january.state()
    for month, reason in {"000": "with --restate --reason", "002": "was never begun", "x": "not a month"}.items():
        result = january("abandon", month)
        assert result.code == 2
        assert reason in result.err
    january.connection.execute("select pg_advisory_lock(24336, 1)")
    assert january("abandon", "001").code == 3
    assert january.state() == before
