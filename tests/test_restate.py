"""Restating a published month keeps its old rows and the history built on them, and updates production."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TABLES, Streamflow
from tests.files import Rows, copy_month, edit, set_value, value_at
from tests.test_forget import mentions
from tests.test_gate import land_only

REASON = ("--restate", "--reason", "the export was cut")


@pytest.fixture
def published(march: Streamflow) -> Streamflow:
    """Three months are published."""
    return march


def other_rows(months: Path, month: str, to: Path) -> tuple[Path, str, str]:
    """A copy of a month with one customer changed, one removed and one new; also the ids of the first two."""
    folder = copy_month(months, month, to)
    changed = value_at(folder / "users.csv", 5, "user_id")
    gone = value_at(folder / "users.csv", 9, "user_id")
    set_value(folder / "usage_agg_30d.csv", 5, "watch_hours_30d", "7.25")
    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: rows.__delitem__(8))
        edit(folder / f"{table}.csv", lambda rows: rows.append(["new-by-restatement", *rows[1][1:]]))
    return folder, changed, gone


def partition(streamflow: Streamflow, table: str, as_of: str) -> list[tuple[object, ...]]:
    """The rows of a history table as of one date."""
    return streamflow.rows(f"select * from {table}_snapshots where as_of = '{as_of}' order by user_id")


def test_restating_the_newest_month(published: Streamflow, months: Path, tmp_path: Path) -> None:
    before = {table: partition(published, table, "2024-03-31") for table in TABLES}
    earlier = {table: partition(published, table, "2024-02-29") for table in TABLES}
    _, changed, gone = other_rows(months, "002", tmp_path)
    assert published("ingest", "002", "--data-dir", tmp_path).code == 1

    result = published.ok("ingest", "002", "--data-dir", tmp_path, *REASON, "--json").json

    assert result["state"] == "published"
    usage = "select watch_hours_30d::text from usage_agg_30d where user_id = %s"
    assert published.value(usage, changed) == "7.25"
    assert published.value("select observed_as_of::text from users where user_id = %s", gone) < "2024-03-31"
    assert published.value("select count(*) from labels where user_id = 'new-by-restatement'") == 1
    for table in TABLES:
        assert partition(published, table, "2024-02-29") == earlier[table]
        [(kept_in, who, reason, during_the_run)] = published.rows(
            "select kept_in, restated_by, restatement.reason, restated_at between started_at and finished_at"
            " from ops.restatements as restatement inner join ops.loads using (load_id) where table_name = %s",
            table,
        )
        assert during_the_run
        assert reason == "the export was cut"
        assert "process" in who
        assert published.rows(f"select * from {kept_in} order by user_id") == before[table]
    assert published("verify").code == 0
    state = published.state()
    assert published.dbt("build", "--full-refresh").success
    assert published.state() == state
    assert published.ok("ingest", "002", "--data-dir", tmp_path, "--json").json["state"] == "unchanged"


def test_restating_an_earlier_month(published: Streamflow, months: Path, tmp_path: Path) -> None:
    later = {table: partition(published, table, "2024-03-31") for table in TABLES}
    _, changed, _ = other_rows(months, "001", tmp_path)

    published.ok("ingest", "001", "--data-dir", tmp_path, *REASON)

    for table in TABLES:
        assert partition(published, table, "2024-03-31") == later[table], "history that was built on it stays"
    february = "select watch_hours_30d::text from usage_agg_30d_snapshots where as_of = '2024-02-29' and user_id = %s"
    assert published.value(february, changed) == "7.25"
    assert published.value("select count(*) from users where user_id = 'new-by-restatement'") == 1
    march = next(month for month in published.ok("status", "--json").json if month["month"] == "002")
    assert march["built_on_replaced"] == ["2024-02-29"]
    assert "002 was built on 2024-02-29 before that month was restated" in published.ok("status").out
    assert published.ok("status").out.count("published, restated") == 1
    assert published.ok("verify").out.count("kept as it was before it was restated") == len(TABLES)

    published.ok("ingest", "003", "--data-dir", months)
    april = (
        "select observed_as_of::text from users_snapshots where as_of = '2024-04-30' and user_id = 'new-by-restatement'"
    )
    assert published.value(april) == "2024-02-29"


@pytest.mark.long
def test_a_customer_whom_a_restatement_takes_out_is_not_carried_on(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """History that was built on the wrong month keeps him; history that is built later does not."""
    folder = copy_month(months, "001", tmp_path)
    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: rows.append(["only-by-mistake", *rows[1][1:]]))
    january.ok("ingest", "001", "--data-dir", tmp_path)
    january.ok("ingest", "002", "--data-dir", months)
    january.ok("ingest", "001", "--data-dir", months, *REASON)
    january.ok("ingest", "003", "--data-dir", months)
    for table in TABLES:
        query = f"select as_of::text from {table}_snapshots where user_id = 'only-by-mistake'"
        assert january.rows(query) == [("2024-03-31",)]
        assert january.value(f"select count(*) from {table} where user_id = 'only-by-mistake'") == 0
    assert january("verify").code == 0


@pytest.mark.long
def test_restating_twice_keeps_both(published: Streamflow, months: Path, tmp_path: Path) -> None:
    folder, _, _ = other_rows(months, "002", tmp_path)
    published.ok("ingest", "002", "--data-dir", tmp_path, *REASON)
    set_value(folder / "labels.csv", 4, "churn_label", "")
    published.ok("ingest", "002", "--data-dir", tmp_path, *REASON)
    state = published.state()
    set_value(folder / "labels.csv", 5, "churn_label", "")
    counts = published.ok("ingest", "002", "--data-dir", tmp_path, *REASON, "--json").json["counts"]
    inserted_or_updated = {one["table"] for one in counts if one["inserted"] or one["updated"]}
    assert inserted_or_updated == {"labels"}, "the others stayed as they were"
    march = next(month for month in published.ok("status", "--json").json if month["month"] == "002")
    assert sorted(march["counts"], key=lambda one: one["table"]) == sorted(counts, key=lambda one: one["table"])
    assert published.state() != state
    assert published.value("select count(*) from ops.restatements where table_name = 'labels'") == 3
    assert published.value("select count(*) from ops.restatements where table_name = 'users'") == 1, "the same file"
    assert published("verify").code == 0


@pytest.mark.long
def test_a_month_that_was_there_before_a_late_one_is_not_built_on_it(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    january.ok("ingest", "002", "--data-dir", months)
    january.ok("ingest", "001", "--data-dir", months)
    set_value(copy_month(months, "001", tmp_path) / "labels.csv", 3, "churn_label", "")
    january.ok("ingest", "001", "--data-dir", tmp_path, *REASON)
    assert [month["built_on_replaced"] for month in january.ok("status", "--json").json] == [[], [], []]


@pytest.fixture
def half_restated(published: Streamflow, months: Path, tmp_path: Path) -> tuple[Streamflow, str]:
    """A restatement of the newest month that was cut off while it wrote history, and a customer whom it changed."""
    folder, changed, _ = other_rows(months, "002", tmp_path)
    published.ok("freeze", "002")
    assert published.value("select count(*) from as_of_2024_03_31.users") > 0
    land_only(published, folder, 2, restates="cut off")
    published.connection.execute("create table history.labels_2024_03_31_load_4 ()")
    assert not published.dbt("build").success
    published.connection.execute("drop table history.labels_2024_03_31_load_4")
    assert published.value("select count(*) between 1 and 5 from ops.restatements")
    return published, changed


def test_a_restatement_that_was_cut_off_is_finished(half_restated: tuple[Streamflow, str], tmp_path: Path) -> None:
    published, changed = half_restated
    assert published.value("select count(*) from as_of_2024_03_31.users") == 0, "nobody sees half of each"
    published.ok("ingest", "002", "--data-dir", tmp_path, *REASON)
    assert published.value("select watch_hours_30d::text from usage_agg_30d where user_id = %s", changed) == "7.25"
    assert published.value("select count(*) from ops.restatements") == len(TABLES), "none twice"
    assert published("verify").code == 0


@pytest.mark.long
def test_a_restatement_that_was_cut_off_is_undone_by_another_month(
    published: Streamflow, half_restated: tuple[Streamflow, str], months: Path, new_database: Callable[..., Streamflow]
) -> None:
    """Nobody has to finish it: what was published comes back, and the next month is built on that."""
    assert [month["as_of"] for month in published.ok("status", "--json").json] == [
        "2024-01-31",
        "2024-02-29",
        "2024-03-31",
    ]
    assert published.value("select max(as_of)::text from published_months") == "2024-02-29", "neither one nor the other"
    published.ok("ingest", "003", "--data-dir", months)
    assert published.value("select count(*) from ops.restatements") == 0
    assert published.value("select count(*) from pg_tables where schemaname = 'restated'") == 0
    assert published("verify").code == 0
    state = published.state()
    undisturbed = new_database("march")
    undisturbed.ok("ingest", "003", "--data-dir", months)
    assert undisturbed.state() == state


@pytest.mark.long
def test_a_restatement_that_was_cut_off_is_restated_back(
    march: Streamflow, half_restated: tuple[Streamflow, str], months: Path, new_database: Callable[..., Streamflow]
) -> None:
    """The rows of before are published again, as if no restatement had begun."""
    march.ok("ingest", "002", "--data-dir", months, *REASON)
    state = march.state()
    assert new_database("march").state() == state


@pytest.mark.long
def test_audits_compare_with_what_comes_back_when_a_restatement_was_cut_off(
    half_restated: tuple[Streamflow, str], months: Path, tmp_path: Path
) -> None:
    """They do not compare with February, the newest published month meanwhile, nor with the half-written rows."""
    published, _ = half_restated
    copy_month(months, "002", tmp_path / "again").rename(tmp_path / "again" / "month_003")
    said = published.ok("check", "003", "--data-dir", tmp_path / "again").out
    assert "every row is as on 2024-03-31" in said
    assert "2024-02-29" not in said
    assert published.value("select max(as_of)::text from published_months") == "2024-03-31"
    published.ok("verify")


@pytest.mark.long
def test_a_customer_is_forgotten_while_a_restatement_is_cut_off(
    half_restated: tuple[Streamflow, str], months: Path
) -> None:
    """The rows that come back when it is undone lack the customer too, and their checksum fits."""
    published, user = half_restated
    published.ok("forget", user, "--reason", "they asked")
    published.ok("verify")
    published.ok("ingest", "003", "--data-dir", months)
    assert published.value("select count(*) from ops.restatements") == 0
    assert mentions(published, user) == []
    published.ok("verify")


def test_a_bad_restatement_is_refused(published: Streamflow, months: Path, tmp_path: Path) -> None:
    folder, _, _ = other_rows(months, "002", tmp_path)
    set_value(folder / "usage_agg_30d.csv", 3, "watch_hours_30d", "-1")
    before = published.state()
    result = published("ingest", "002", "--data-dir", tmp_path, *REASON)
    assert result.code == 1
    assert "usage_agg_30d.csv:3" in result.err
    assert published.state() == before
    assert published.value("select count(*) from ops.restatements") == 0


def test_the_same_files_restate_nothing(published: Streamflow, months: Path) -> None:
    result = published.ok("ingest", "002", "--data-dir", months, *REASON, "--json").json
    assert result["state"] == "unchanged"
    assert published.value("select count(*) from ops.restatements") == 0


@pytest.mark.long
def test_files_that_0_2_0_entered_are_the_same_files(published: Streamflow, months: Path, tmp_path: Path) -> None:
    """It entered a hash of the bytes alone; a restatement compares rows, as it may read the same bytes otherwise."""
    published.connection.execute(
        "update ops.loads set files = (select jsonb_agg(file - 'content') from jsonb_array_elements(files) as file)"
    )
    again = published.ok("ingest", "001", "--data-dir", months, "--json").json
    assert (again["state"], "landing" in again["timings"]) == ("unchanged", False)
    assert "nothing: published already" in published.ok("ingest", "001", "--data-dir", months, "--dry-run").out
    set_value(copy_month(months, "001", tmp_path) / "labels.csv", 9, "churn_label", "")
    published.ok("ingest", "001", "--data-dir", tmp_path, *REASON)
    assert published.rows("select table_name from ops.restatements") == [("labels",)]
    set_value(tmp_path / "month_001" / "labels.csv", 10, "churn_label", "")
    published.ok("ingest", "001", "--data-dir", tmp_path, *REASON)
    assert published.rows("select distinct table_name from ops.restatements") == [("labels",)]
    published.ok("verify")


def test_a_restatement_has_a_reason(published: Streamflow, months: Path) -> None:
    lacks, is_lost = '--restate needs --reason "..."', "--reason explains --restate or --waive"
    for arguments, said in (
        (("--restate",), lacks),
        (("--restate", "--reason", " "), lacks),
        (("--reason", "why"), is_lost),
    ):
        result = published("ingest", "002", "--data-dir", months, *arguments)
        assert result.code == 2, arguments
        assert said in result.err, arguments


def test_a_month_that_is_not_published_cannot_be_restated(published: Streamflow, months: Path) -> None:
    result = published("ingest", "003", "--data-dir", months, *REASON)
    assert result.code == 2
    assert "is not published" in result.err


@pytest.mark.long
def test_a_restatement_corrects_a_key_beside_a_unique_constraint_of_somebodys_own(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """The row with the wrong key goes before the one with the right key comes."""
    if january.on_citus:
        pytest.skip("a unique constraint includes the column by which a table is spread")
    folder = copy_month(months, "000", tmp_path)

    def dates_of_their_own(rows: Rows) -> None:
        for n, row in enumerate(rows[1:]):
            row[1] = f"{2010 + n // 28}-01-{n % 28 + 1:02}"

    edit(folder / "users.csv", dates_of_their_own)
    january.ok("ingest", "000", "--data-dir", tmp_path, *REASON)
    january.connection.execute("alter table users add unique (signup_date)")
    wrong = value_at(folder / "users.csv", 5, "user_id")
    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: [row.__setitem__(0, "right") for row in rows if row[0] == wrong])
    january.ok("ingest", "000", "--data-dir", tmp_path, *REASON)
    assert january.rows("select user_id from users where user_id = any(%s)", [wrong, "right"]) == [("right",)]
    january.ok("verify")


@pytest.mark.long
def test_a_restatement_without_whom_a_table_of_somebodys_own_names_is_refused_before_it_is_begun(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    if january.on_citus:
        pytest.skip("a table of one's own cannot reference one that is spread")
    folder = copy_month(months, "001", tmp_path)
    edit(folder / "users.csv", lambda rows: rows.append(["only-here", *rows[1][1:]]))
    january.ok("ingest", "001", "--data-dir", tmp_path)
    january.connection.execute("create table mine (who text constraint mine_knows references users)")
    january.connection.execute("insert into mine values ('only-here')")
    before = january.state()
    restate = ("ingest", "001", "--data-dir", months, "--restate", "--reason", "a mistake")
    refused = january(*restate)
    assert (refused.code, "`alter table mine drop constraint mine_knows` in psql" in refused.err) == (1, True), refused
    assert january.state() == before
    january.connection.execute("alter table mine drop constraint mine_knows")
    january.ok(*restate)
    january.ok("verify")
    assert january.rows("select * from mine") == [("only-here",)]
