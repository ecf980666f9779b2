"""A run is cut off and other commands follow: history and production end up as if nothing had been cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TABLES, Streamflow
from tests.files import copy_month, edit, set_value
from tests.pauses import PATIENCE, paused
from tests.test_crashes import wait_until
from tests.test_doctor import found
from tests.test_gate import published

FINISH = ("run", "--select", "complete_months+")


def restating(reason: str) -> tuple[str, str, str]:
    """The options of a restatement."""
    return "--restate", "--reason", reason


def with_fewer(months: Path, number: int, folder: Path, row: int) -> Path:
    """A folder of months with a copy of one month that lacks one customer."""
    month = copy_month(months, f"{number:03d}", folder / f"lacks_{row}")
    for table in TABLES:
        edit(month / f"{table}.csv", lambda rows: rows.__delitem__(row))
    return month.parent


@pytest.fixture
def fewer(months: Path, tmp_path: Path) -> Callable[[int, int], Path]:
    """Makes copies of months that lack one customer."""
    return lambda number, row: with_fewer(months, number, tmp_path / f"{number}", row)


BEGUN = "select (select max(load_id) from ops.history) = (select max(load_id) from ops.loads)"


def cut_off(streamflow: Streamflow, point: str, *arguments: str | Path, when: str = "") -> None:
    """Kill an ingest at a point, once the query `when` is true: other tables may take longer to get as far."""
    with paused(streamflow, point, "ingest", *arguments) as run:
        if when:
            wait_until(streamflow, when)
        run.process.kill()
        run.process.wait(PATIENCE)
    wait_until(streamflow, "select count(*) = 0 from pg_locks where locktype = 'advisory'")


@pytest.mark.long
def test_a_restatement_upon_one_that_was_cut_off_and_then_another_month(
    february: Streamflow, months: Path, fewer: Callable[[int, int], Path], new_database: Callable[..., Streamflow]
) -> None:
    """The first restatement is complete and partly merged, so it stands; the second is undone, back to the first."""
    first, second = ("001", "--data-dir", fewer(1, 3)), ("001", "--data-dir", fewer(1, 5))
    cut_off(february, "last merge", *first, *restating("one"))
    cut_off(february, "last history", *second, *restating("two"), when=BEGUN)
    february.ok("ingest", "002", "--data-dir", months)
    february.ok("verify")
    ended = february.state()
    assert "unfinished: 001, whose last attempt was cut off" in february.ok("status").out
    assert "what was published stands" in february.ok("abandon", "001").out
    assert "unfinished" not in february.ok("status").out
    assert february.state() == ended
    february.connection.close()

    again = new_database()
    again.ok("ingest", "000..001", "--data-dir", months)
    again.ok("ingest", *first, *restating("one"))
    again.ok("ingest", "002", "--data-dir", months)
    assert again.state() == ended


@pytest.mark.long
def test_restatements_that_were_cut_off_are_given_up(
    february: Streamflow, months: Path, fewer: Callable[[int, int], Path], undisturbed: object
) -> None:
    """One `abandon` gives up both, and production takes in the published rows again."""
    cut_off(february, "last merge", "001", "--data-dir", fewer(1, 3), *restating("one"))
    cut_off(february, "last history", "001", "--data-dir", fewer(1, 5), *restating("two"), when=BEGUN)
    assert "but production has yet to follow: run `streamflow dbt run" in february.ok("abandon", "001").out
    assert published(february) == ["2024-01-31", "2024-02-29"]
    [(level, text)] = found(february.ok("doctor", "--json"), "months")
    assert (level, "it has to take in 001 again" in text) == ("warning", True)
    assert february.dbt(*FINISH).success
    assert february.state() == undisturbed
    february.ok("verify")
    february.ok("ingest", "001", "--data-dir", months)
    assert found(february.ok("doctor", "--json"), "months") == [("ok", "2 published, none left unfinished: ")]


@pytest.mark.long
def test_a_month_that_is_whole_is_given_up(january: Streamflow, months: Path, undisturbed: object) -> None:
    before = january.state()
    cut_off(january, "last merge", "001", "--data-dir", months)
    assert "or give it up: streamflow abandon 001" in january.ok("status").out
    assert "but production has yet to follow" in january.ok("abandon", "001").out
    assert january.dbt(*FINISH).success
    assert january.state() == before
    january.ok("verify")
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed


@pytest.mark.long
def test_only_an_ingest_finishes_a_month(
    january: Streamflow, months: Path, fewer: Callable[[int, int], Path], undisturbed: object
) -> None:
    """A check publishes nothing, and landing leaves that to `dbt build`."""
    others = fewer(1, 3)
    cut_off(january, "last merge", "001", "--data-dir", months)
    for command in ("check", "land"):
        refused = january(command, "001", "--data-dir", others)
        assert refused.code == 1
        assert "was begun for 2024-02-29, with other rows; to give those up: `streamflow abandon 001`" in refused.err
        assert published(january) == ["2024-01-31"]
    january.ok("check", "001", "--data-dir", months)
    assert "month 001 is in staging" in january.ok("land", "001", "--data-dir", months).out
    assert published(january) == ["2024-01-31"]
    assert january.dbt("build").success
    assert january.state() == undisturbed
    january.ok("verify")


@pytest.mark.long
def test_an_ingest_of_other_files_finishes_a_month_and_says_so(
    january: Streamflow, months: Path, fewer: Callable[[int, int], Path], undisturbed: object
) -> None:
    cut_off(january, "last merge", "001", "--data-dir", months)
    refused = january("ingest", "001", "--data-dir", fewer(1, 3))
    assert refused.code == 1
    assert "was begun for 2024-02-29, with other rows, and is published now" in refused.err
    assert january.state() == undisturbed
    assert published(january) == ["2024-01-31", "2024-02-29"]


@pytest.mark.long
def test_a_month_that_was_begun_from_other_files_is_given_up_and_taken(
    january: Streamflow, months: Path, fewer: Callable[[int, int], Path]
) -> None:
    cut_off(january, "last merge", "001", "--data-dir", months)
    others = fewer(1, 3)
    assert "to give those up: `streamflow abandon 001`" in january("land", "001", "--data-dir", others).err
    january.ok("abandon", "001")
    january.ok("ingest", "001", "--data-dir", others)
    assert published(january) == ["2024-01-31", "2024-02-29"]
    january.ok("verify")


@pytest.mark.long
def test_what_was_given_up_is_out_of_production_with_the_next_month(
    january: Streamflow, months: Path, new_database: Callable[..., Streamflow]
) -> None:
    """Also if the run that takes it out is killed and started again."""
    cut_off(january, "last merge", "001", "--data-dir", months)
    january.ok("abandon", "001")
    cut_off(january, "last merge", "002", "--data-dir", months)
    january.ok("ingest", "002", "--data-dir", months)
    january.ok("verify")
    assert found(january.ok("doctor", "--json"), "months") == [("ok", "2 published, none left unfinished: ")]
    ended = january.state()
    january.connection.close()

    again = new_database()
    for month in ("000", "002"):
        again.ok("ingest", month, "--data-dir", months)
    assert again.state() == ended


@pytest.mark.long
def test_a_month_that_another_is_built_on_is_given_up_after_it(january: Streamflow, months: Path) -> None:
    before = january.state()
    for month in ("001", "002"):
        cut_off(january, "last merge", month, "--data-dir", months)
    refused = january("abandon", "001")
    assert refused.code == 2
    assert "2024-03-31 was built on month 001" in refused.err
    for month in ("002", "001"):
        january.ok("abandon", month)
    assert january.dbt(*FINISH).success
    assert january.state() == before
    january.ok("verify")


@pytest.mark.long
def test_the_first_month_of_all_is_given_up(streamflow: Streamflow, months: Path) -> None:
    streamflow.ok("init")
    cut_off(streamflow, "last merge", "000", "--data-dir", months)
    streamflow.ok("abandon", "000")
    assert all(rows == [] for tables in streamflow.state() for rows in tables.values())
    streamflow.ok("ingest", "000", "--data-dir", months)
    streamflow.ok("verify")


@pytest.mark.long
def test_production_is_not_made_anew_while_a_month_is_half_restated(
    february: Streamflow, months: Path, fewer: Callable[[int, int], Path], new_database: Callable[..., Streamflow]
) -> None:
    if february.on_citus:
        pytest.skip("labels is the first table there, and nothing is half built")
    january = ("000", "--data-dir", fewer(0, 3), *restating("r0"))
    cut_off(february, "first merge", *january)
    begun = "select max(load_id) = (select max(load_id) from ops.loads) from ops.history where table_name = 'users'"
    cut_off(february, "last history", "001", "--data-dir", fewer(1, 5), *restating("r1"), when=begun)
    refused = february("ingest", *january)
    assert refused.code == 3
    assert "cannot be rebuilt while the restatement of 2024-02-29 is unfinished" in refused.err
    february.ok("abandon", "001")
    february.ok("ingest", *january)
    february.ok("verify")
    ended = february.state()
    february.connection.close()

    again = new_database()
    again.ok("ingest", "000..001", "--data-dir", months)
    again.ok("ingest", *january)
    assert again.state() == ended


@pytest.mark.long
def test_rows_that_were_published_before_are_restated_and_cut_off(
    february: Streamflow, months: Path, fewer: Callable[[int, int], Path], undisturbed: object
) -> None:
    """An earlier load has the same files; production does not have their rows yet."""
    back = ("001", "--data-dir", months, *restating("back"))
    february.ok("ingest", "001", "--data-dir", fewer(1, 3), *restating("wrong"))
    cut_off(february, "last merge", *back)
    assert "not finished: 001" in february.ok("status").out
    finished = february.ok("ingest", *back, "--json").json
    assert "published, which was begun before" in finished["message"]
    assert max(one["inserted"] + one["updated"] for one in finished["counts"]) > 0, "production took them in only now"
    assert february.state() == undisturbed
    assert february.value("select max(load_id) from ops.published") == february.value(
        "select max(load_id) from ops.history"
    )
    february.ok("verify")
    assert "not finished" not in february.ok("status").out


@pytest.mark.long
def test_verdicts_of_a_run_that_was_cut_off_are_entered(january: Streamflow, months: Path) -> None:
    cut_off(january, "last history", "001", "--data-dir", months)
    assert not january.rows("select from ops.audits where load_id = (select max(load_id) from ops.staged)")
    january.ok("ingest", "001", "--data-dir", months)
    cut_off(january, "last merge", "002", "--data-dir", months)
    january.ok("ingest", "002", "--data-dir", months)
    passed = {month["month"]: month["audits_passed"] for month in january.ok("status", "--json").json}
    assert passed["000"] > 50
    assert passed["001"] > 50
    assert passed["002"] > 50


@pytest.mark.long
def test_verdicts_on_a_published_month_stand(january: Streamflow) -> None:
    """Also if staging was changed since, or lost in a crash of the server."""
    verdicts = january.rows("select * from ops.audits order by audit_id")
    january.connection.execute("update staging.usage_agg_30d set watch_hours_30d = -1")
    assert not january.dbt("build").success
    assert january.rows("select * from ops.audits order by audit_id") == verdicts
    for table in TABLES:
        january.connection.execute(f"truncate staging.{table}".encode())
    assert january.dbt("build").success, "nothing is in staging"
    assert january.rows("select * from ops.audits order by audit_id") == verdicts
    january.ok("verify")


@pytest.mark.long
def test_a_month_is_published_whatever_is_in_staging(january: Streamflow, months: Path, tmp_path: Path) -> None:
    cut_off(january, "last merge", "001", "--data-dir", months)
    set_value(copy_month(months, "002", tmp_path) / "usage_agg_30d.csv", 3, "watch_hours_30d", "-1")
    assert january("check", "002", "--data-dir", tmp_path).code == 1
    assert f"streamflow dbt {' '.join(FINISH)}" in january.ok("status").out
    assert january.dbt(*FINISH).success
    assert published(january) == ["2024-01-31", "2024-02-29"]
    january.ok("verify")


def test_a_production_table_that_was_dropped_is_made_anew(february: Streamflow, undisturbed: object) -> None:
    february.connection.execute("drop table labels cascade")
    result = february("ingest", "001")
    assert result.code == 3
    assert "public.labels. To go on, run `streamflow dbt run --select complete_months+`: it" in result.err
    assert february.dbt(*FINISH).success
    assert february.state() == undisturbed
    february.ok("verify")
    february.connection.execute("drop table labels_snapshots cascade")
    assert "restore the database from a backup" in february("ingest", "001").err


def test_what_another_landing_displaced_is_told(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a command that works in every folder, and that names no folder of months if it is the usual one."""
    monkeypatch.chdir(months)
    january.ok("land", "001", "--data-dir", ".")
    assert "no longer holds" not in january.ok("status").out
    january.ok("check", "002", "--data-dir", ".")
    assert f"which staging no longer holds: streamflow land 001 --data-dir {months}\n" in january.ok("status").out
    january.environment["STREAMFLOW_DATA_DIR"] = str(months)
    assert "which staging no longer holds: streamflow land 001\n" in january.ok("status").out


@pytest.mark.long
def test_the_command_that_is_named_has_the_date(january: Streamflow, months: Path) -> None:
    if january.on_citus:
        pytest.skip("labels is the first table there, and nothing is half built")
    dated = ("001", "--as-of", "2024-03-15")
    cut_off(january, "last history", *dated, "--data-dir", months, when=BEGUN)
    said = january.ok("status").out
    assert f"streamflow ingest 001 --as-of 2024-03-15 --data-dir {months}, or" in said
    assert "streamflow abandon 001 --as-of 2024-03-15" in said
    january.ok("abandon", *dated)
    assert "not finished" not in january.ok("status").out


@pytest.mark.long
def test_a_key_that_is_new_refuses_no_month_that_history_has(january: Streamflow, months: Path) -> None:
    """Production has a row that names nobody and that no delivery has: the month is refused before it is begun."""
    before = january.history()
    january.connection.execute("alter table labels drop constraint labels_user_id_fkey")
    january.connection.execute("insert into labels select 'nobody', churn_label, observed_as_of from labels limit 1")
    refused = january("ingest", "001", "--data-dir", months)
    assert refused.code == 1
    assert "rows of labels that would match no row of users by user_id: 1, delivered on" in refused.err
    assert january.history() == before
    january.connection.execute("delete from labels where user_id = 'nobody'")
    january.ok("ingest", "001", "--data-dir", months)
    assert (
        january.value("select count(*) from pg_constraint where conrelid = 'labels'::regclass and contype = 'f'") == 1
    )


@pytest.mark.long
def test_rows_that_production_lost_hold_back_each_month_until_it_is_mended(january: Streamflow, months: Path) -> None:
    """The second month too, with which production would take in both at once."""
    later = [(months / f"month_{month}" / "labels.csv").read_text() for month in ("001", "002")]
    known = [user for (user,) in january.rows("select user_id from labels")]
    lost = next(user for user in known if not any(user in text for text in later))
    january.connection.execute("delete from labels where user_id = %s", [lost])
    for month in ("001", "002"):
        held_back = january("ingest", month, "--data-dir", months)
        assert held_back.code == 3, held_back
        assert "labels would have" in held_back.err
        assert published(january) == ["2024-01-31"]
    assert january.dbt("build", "--full-refresh").success
    january.ok("verify")
    assert january.value("select count(*) from labels where user_id = %s", lost) == 1
