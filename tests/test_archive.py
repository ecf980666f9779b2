"""Old months are archived as Parquet files that are proven first, and restored unchanged."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sys
from decimal import Decimal
from pathlib import Path
from unittest.mock import Mock

import pytest
from psycopg import sql
from pyarrow import parquet as arrow

from loader.contract.tables import load_contract
from loader.database import Connection
from loader.errors import SurroundingsFailed, WrongUsage
from loader.ledger.chain import Entry
from loader.readers.freeze import freeze
from loader.upkeep import archive, history, parquet
from loader.upkeep.archive import _dispensable
from tests.conftest import TABLES, Streamflow, run_copy
from tests.files import copy_month, set_value, write_month
from tests.pauses import paused
from tests.servers import connect
from tests.test_abandon import last_history_fails
from tests.test_contract import PLANS, declare

JANUARY, FEBRUARY, MARCH, APRIL = "2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"


def texts(streamflow: Streamflow, *suffixes: str) -> dict[str, list[str]]:
    """The rows of tables as text: as numbers, 70.7 and 70.70 would be equal in Python."""
    found = {}
    for name in (f"{table}{suffix}" for table in TABLES for suffix in suffixes):
        query = sql.SQL("select t::text from {} as t order by 1").format(sql.Identifier(name))
        found[name] = [text for (text,) in streamflow.connection.execute(query).fetchall()]
    return found


def dates(streamflow: Streamflow) -> list[str]:
    return [str(date) for (date,) in streamflow.rows("select distinct as_of from users_snapshots order by 1")]


def archived(streamflow: Streamflow, folder: Path, before: str = FEBRUARY) -> None:
    streamflow.ok("archive", "--before", before, "--to", folder)


@pytest.mark.long
def test_a_month_that_was_restated_and_archived_leaves_one_version_of_its_rows(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """February carries forward the first version of January, and March the restated one."""
    january.ok("ingest", "001", "--data-dir", months)
    first, *later = ((months / f"month_{month}" / "users.csv").read_text() for month in ("000", "001", "002"))
    line = next(line for line in first.splitlines()[1:] if not any(line.split(",")[0] in text for text in later))
    user, signup_date = line.split(",")[:2]
    folder = copy_month(months, "000", tmp_path / "corrected")
    (folder / "users.csv").write_text(first.replace(line, line.replace(signup_date, "2020-02-02")))
    restatement = ("--data-dir", tmp_path / "corrected", "--restate", "--reason", "a date")
    january.ok("ingest", "000", *restatement)
    january.ok("ingest", "002", "--data-dir", months)
    archived(january, tmp_path / "old")
    version = "select signup_date::text, valid_from::text, is_current from users_scd2 where user_id = %s"
    assert january.rows(version, user) == [("2020-02-02", JANUARY, True)]
    assert january.value("select count(*) = count(distinct (user_id, valid_from)) from users_scd2")
    current = "select user_id, signup_date, user_gender from users_scd2 where is_current"
    assert january.rows(f"{current} except select user_id, signup_date, user_gender from users") == []


@pytest.mark.long
def test_a_check_that_somebody_added_to_history_holds_for_every_month(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    if january.on_citus:
        pytest.skip("Citus cannot attach a partition with a check: the name of each shard's ends in its own number")
    corrected = copy_month(months, "001", tmp_path)
    set_value(corrected / "labels.csv", 2, "churn_label", "")
    january.ok("ingest", "001", "--data-dir", months)
    january.connection.execute("alter table history.labels_2024_02_29 add check (user_id <> 'nobody')")
    with last_history_fails(january, "usage_agg_30d_2024_02_29_load_3"):
        restatement = ("ingest", "001", "--data-dir", tmp_path, "--restate", "--reason", "why")
        set_value(corrected / "usage_agg_30d.csv", 2, "skips_7d", "")
        assert january(*restatement).code == 3
    january.connection.execute("alter table labels_snapshots add constraint known check (user_id <> '')")
    january.ok("ingest", "002", "--data-dir", months)
    archived(january, tmp_path / "old")
    january.ok("archive", "--restore", JANUARY)
    january.ok("ingest", "003", "--data-dir", months)
    assert january.value("select count(*) from pg_constraint where conname = 'known'") == 5
    january.ok("verify")


@pytest.mark.long
def test_a_check_that_rows_break_is_named_and_shows_none_of_them(
    february: Streamflow, months: Path, tmp_path: Path
) -> None:
    if february.on_citus:
        pytest.skip("Citus cannot attach a partition with a check: the name of each shard's ends in its own number")
    archived(february, tmp_path / "old")
    february.connection.execute("alter table labels_snapshots add constraint newer check (as_of > '2024-01-31')")
    refused = february("archive", "--restore")
    assert refused.code == 3
    assert 'check constraint "newer"' in refused.err
    assert "Drop what is in the way" in refused.err
    assert "Failing row" not in refused.err
    february.connection.execute("alter table labels_snapshots drop constraint newer")
    february.connection.execute("alter table labels_snapshots add constraint older check (as_of < '2024-03-01')")
    broken = february("ingest", "002", "--data-dir", months)
    assert broken.code == 3
    assert 'check constraint "older"' in broken.err
    assert "Failing row" not in broken.err
    february.connection.execute("alter table labels_snapshots drop constraint older")
    february.connection.execute("alter table labels add constraint merged check (observed_as_of < '2024-03-01')")
    broken = february("ingest", "002", "--data-dir", months)
    assert broken.code == 3
    assert 'check constraint "merged"' in broken.err
    log = Path(february.environment["STREAMFLOW_HOME"]) / "logs" / "dbt.log"
    for said in (broken.err, february.ok("status", "--json").out, log.read_text()):
        assert "Failing row" not in said
    february.connection.execute("alter table labels drop constraint merged")
    february.ok("archive", "--restore")
    february.ok("verify")


@pytest.mark.long
def test_a_row_that_a_restatement_replaced_is_no_version_of_an_archived_month(
    streamflow: Streamflow, tmp_path: Path
) -> None:
    """February carries the replaced row, and March delivers the customer again, so no month carries the new row."""
    everybody = {f"c{number:02d}": number for number in range(20)}
    others = {name: number + 1 for name, number in everybody.items() if name != "c00"}
    for month, customers in enumerate((everybody, others, everybody)):
        write_month(tmp_path / f"month_{month:03d}", customers)
    write_month(tmp_path / "corrected" / "month_000", {**everybody, "c00": 5})
    streamflow.ok("ingest", "000..001", "--data-dir", tmp_path)
    streamflow.ok("ingest", "000", "--data-dir", tmp_path / "corrected", "--restate", "--reason", "c00 was wrong")
    streamflow.ok("ingest", "002", "--data-dir", tmp_path)
    query = "select months_active, valid_from::text from subscriptions_scd2 where user_id = 'c00' order by valid_from"
    assert streamflow.rows(query) == [(6, JANUARY), (1, MARCH)]
    archived(streamflow, tmp_path / "old")
    assert streamflow.rows(query) == [(1, MARCH)]
    streamflow.ok("archive", "--restore")
    assert streamflow.rows(query) == [(6, JANUARY), (1, MARCH)]


def test_a_month_is_archived_and_comes_back_the_same(march: Streamflow, months: Path, tmp_path: Path) -> None:
    before, folder, manifest = texts(march, "", "_snapshots"), tmp_path / "old", tmp_path / "manifest"
    everybody = "select user_id from users_scd2 where is_current order by user_id"
    known = march.rows(everybody)
    march.ok("verify", "--manifest", manifest)
    done = march.ok("archive", "--before", MARCH, "--to", folder, "--json").json

    assert [(one["as_of"], len(one["files"])) for one in done] == [(JANUARY, len(TABLES)), (FEBRUARY, len(TABLES))]
    assert sorted(path.name for path in folder.iterdir()) == sorted(name for one in done for name in one["files"])
    assert dates(march) == [MARCH]
    assert march.rows(everybody) == known
    dated = "select bool_and(valid_from = observed_as_of) from users_scd2 join users using (user_id) where is_current"
    assert march.value(dated)
    status = march.ok("status").out
    assert f"000 is archived in {folder}: streamflow archive --restore {JANUARY} brings it back" in status
    user = march.value("select min(user_id) from users_snapshots")
    assert f"not shown, as it is archived in {folder}: {JANUARY}" in march.ok("history", user).out
    march.ok("archive", "--restore", FEBRUARY)
    assert march.value("select to_regclass('history.users_2024_01_31') is null")
    assert texts(march, "") == {name: rows for name, rows in before.items() if name in TABLES}
    verdicts = march.ok("verify", "--manifest", manifest, "--json").json
    assert sum(f"archived in {folder}" in one["finding"] for one in verdicts) == len(TABLES)
    assert f"{JANUARY} archived: 6 tables" in manifest.read_text()
    for command in (
        ["training-set", "--as-of", JANUARY, "--label-as-of", FEBRUARY],
        ["diff", "000", "001"],
        ["report", "000"],
    ):
        refused = march(*command)
        assert refused.code == 2
        assert f"is archived in {folder}: `streamflow archive --restore {JANUARY}`" in refused.err
    assert "nothing to do" in march.ok("ingest", "000", "--data-dir", months).out
    alone = march("report", "001")
    assert alone.code == 2
    assert f"nothing to be compared with: {JANUARY}, the month before it, is archived in {folder}" in alone.err

    march.ok("archive", "--restore")
    assert texts(march, "", "_snapshots") == before
    assert all("as it was written" in one["finding"] for one in march.ok("verify", "--json").json if one["as_of"])
    with pytest.raises(Exception, match="history and stays"):
        march.connection.execute("delete from history.users_2024_01_31")
    assert march.ok("verify", "--manifest", manifest).code == 0
    march.connection.execute("alter table labels_snapshots add column told_by text")  # like one declared meanwhile
    march.ok("archive", "--before", MARCH, "--to", folder)
    assert dates(march) == [MARCH]


def test_a_month_that_is_read_is_the_only_one_that_stays(
    march: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PATIENCE", "1ms")
    with march.connection.transaction():
        march.connection.execute("select from history.users_2024_02_29")
        result = march("archive", "--before", MARCH, "--to", tmp_path)
    assert result.code == 3
    assert f"{FEBRUARY} is not archived: a table is in use" in result.err
    assert dates(march) == [FEBRUARY, MARCH]


@pytest.mark.long
def test_production_is_mended_where_all_but_the_newest_month_are_archived(
    march: Streamflow, months: Path, tmp_path: Path
) -> None:
    before = texts(march, "")
    archived(march, tmp_path / "old", MARCH)
    assert march.dbt("build").success
    march.connection.execute("update labels set churn_label = not churn_label")
    assert march("verify").code == 1
    assert march.dbt("build", "--full-refresh").success
    assert texts(march, "") == before
    march.ok("ingest", "003", "--data-dir", months)
    march.ok("verify")


@pytest.mark.long
def test_production_and_new_months_do_without_what_is_archived(march: Streamflow, months: Path, tmp_path: Path) -> None:
    """A rebuild and a restatement take customers of archived months from the newest month, which carries them."""
    march.ok("ingest", "003", "--data-dir", months)
    again = copy_month(months, "003", tmp_path / "again")
    path = again / "labels.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    before = texts(march, "")
    archived(march, tmp_path / "old", MARCH)
    gone = march.value("select count(*) from users where observed_as_of < %s", MARCH)
    assert gone > 0, "the months have customers who left"
    built = march.dbt("build", "--full-refresh")
    assert built.success
    assert texts(march, "") == before
    march.ok("ingest", "003", "--data-dir", tmp_path / "again", "--restate", "--reason", "one row less")
    march.ok("verify")
    now = texts(march, "", "_snapshots")
    march.ok("archive", "--restore")
    assert march.dbt("build", "--full-refresh").success
    assert texts(march, "") == {name: now[name] for name in TABLES}
    march.ok("verify")


ODD = {"monthly_fee": "70.700", "total_paid": "12345678901234567890.000000000000000000010"}


@pytest.mark.long
def test_every_digit_and_character_comes_back(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path / "months")
    users = (folder / "users.csv").read_text().splitlines()
    key = users[1].partition(",")[0]
    for table in TABLES:
        file = folder / f"{table}.csv"
        file.write_text(file.read_text().replace(f"\n{key},", '\n"é,""x""",'))
    for column, value in ODD.items():
        set_value(folder / "subscriptions.csv", 3, column, value)
    set_value(folder / "subscriptions.csv", 4, "monthly_fee", "")
    streamflow.ok("ingest", "000", "--data-dir", tmp_path / "months")
    streamflow.ok("ingest", "001", "--data-dir", months)
    before = texts(streamflow, "_snapshots")
    assert any("70.700" in row and ODD["total_paid"] in row for row in before["subscriptions_snapshots"])
    archived(streamflow, tmp_path / "old")
    table = arrow.read_table(tmp_path / "old" / "subscriptions_2024_01_31.parquet")
    assert {"70.700", None} <= set(table.column("monthly_fee").to_pylist())
    assert str(table.schema.field("months_active").type) == "int32"
    assert str(table.schema.field("observed_as_of").type) == "date32[day]"
    streamflow.ok("archive", "--restore", JANUARY)
    assert texts(streamflow, "_snapshots") == before


def test_a_date_that_parquet_cannot_hold_is_kept_as_text(tmp_path: Path) -> None:
    path, lines = tmp_path / "file", ["infinity,0044-03-15 BC", "2024-01-31,2024-01-31 10:00:00.25", ",", ""]
    types = {"day": "date", "at": "timestamp without time zone"}
    path.write_text("\n".join(["day,at", *lines]))
    with pytest.raises(SurroundingsFailed, match="Write CSV instead"):
        parquet.from_csv(path, types)
    parquet.from_csv(path, types, exact=True)
    assert b"".join(parquet.as_csv(path)).decode().replace('"', "").splitlines() == lines[:-1]


def test_a_file_that_does_not_read_back_keeps_the_month(
    march: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = parquet.from_csv
    monkeypatch.setattr(parquet, "from_csv", lambda path, types, **_: exact(path, types))
    before = texts(march, "_snapshots")
    refused = march("archive", "--before", FEBRUARY, "--to", tmp_path / "old")
    assert refused.code == 3
    assert "does not read back as subscriptions of 2024-01-31" in refused.err
    assert texts(march, "_snapshots") == before


def test_a_schema_that_is_made_meanwhile_keeps_the_month(
    february: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, wrote = texts(february, "_snapshots"), archive._write

    def freezing(connection: Connection, entry: Entry, path: Path) -> None:
        wrote(connection, entry, path)
        with contextlib.closing(connect(february.environment, "streamflow")) as other:
            freeze(other, load_contract(), dt.date(2024, 1, 31))

    monkeypatch.setattr(archive, "_write", freezing)
    refused = february("archive", "--before", FEBRUARY, "--to", tmp_path / "old")
    assert (refused.code, "the schema as_of_2024_01_31 shows such a month" in refused.err) == (2, True)
    assert texts(february, "_snapshots") == before
    monkeypatch.undo()
    february.connection.execute("drop schema as_of_2024_01_31 cascade")
    archived(february, tmp_path / "old")
    with pytest.raises(WrongUsage, match="is archived in"):
        freeze(february.connection, load_contract(), dt.date(2024, 1, 31))


def test_what_must_stay_is_refused(march: Streamflow, months: Path, tmp_path: Path) -> None:
    def refused(*arguments: str | Path) -> str:
        before = dates(march)
        result = march("archive", *arguments)
        assert result.code == 2, result
        assert dates(march) == before
        return result.err

    to = ("--to", tmp_path / "old")
    assert "2024-03-31 cannot be archived yet" in refused("--before", "2025-01-01", *to)
    march.ok("freeze", JANUARY)
    assert "`drop schema as_of_2024_01_31 cascade`" in refused("--before", FEBRUARY, *to)
    march.connection.execute("drop schema as_of_2024_01_31 cascade")
    march.ok("ingest", "004", "--data-dir", months)
    march.ok("ingest", "003", "--data-dir", months)
    assert f"{APRIL} cannot be archived yet" in refused("--before", "2024-05-31", *to)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "labels_2024_01_31.parquet").write_text("another database's")
    assert "is there already, and has other rows" in refused("--before", FEBRUARY, *to)
    assert "is not archived. These are: none" in refused("--restore", JANUARY)
    for words in ([], ["--before", JANUARY], ["--restore", "--before", JANUARY], [JANUARY, "--before", JANUARY, *to]):
        assert "say what to do" in refused(*words)
    assert march.ok("archive", "--before", "2020-01-01", *to).out == "0 months archived\n"


def test_a_restated_month_comes_back_as_it_was(restated: tuple[Streamflow, Path], months: Path, tmp_path: Path) -> None:
    """The restated rows come back, not the rows that they replaced, which are kept too."""
    streamflow, manifest = restated
    streamflow.ok("ingest", "002", "--data-dir", months)
    before = texts(streamflow, "_snapshots")
    archived(streamflow, tmp_path / "old", MARCH)
    streamflow.ok("verify", "--manifest", manifest)
    streamflow.ok("archive", "--restore")
    assert texts(streamflow, "_snapshots") == before
    streamflow.ok("verify", "--manifest", manifest)


@pytest.mark.long
def test_a_restatement_brings_back_what_an_archived_month_delivered(streamflow: Streamflow, tmp_path: Path) -> None:
    """The newest month carries forward the row that is replaced; only the restated one carries the archived row."""
    everybody = {f"c{number:02d}": number for number in range(20)}
    others = {name: number + 1 for name, number in everybody.items() if name != "c00"}
    for month, customers in enumerate((everybody, others, dict.fromkeys(everybody, 7), others)):
        write_month(tmp_path / f"month_{month:03d}", customers)
    streamflow.ok("ingest", "000..003", "--data-dir", tmp_path)
    archived(streamflow, tmp_path / "old")
    write_month(tmp_path / "corrected" / "month_002", others)
    streamflow.ok("ingest", "002", "--data-dir", tmp_path / "corrected", "--restate", "--reason", "c00 was not in it")
    query = "select count(*), min(observed_as_of)::text, max(observed_as_of)::text from {} where user_id = 'c00'"
    for table in TABLES:
        assert streamflow.rows(query.format(table)) == [(1, JANUARY, JANUARY)], table
    before = texts(streamflow, "")
    streamflow.ok("verify")
    streamflow.dbt("build", "--full-refresh")
    streamflow.ok("archive", "--restore")
    assert texts(streamflow, "") == before
    streamflow.ok("verify")


@pytest.mark.long
def test_a_rebuild_that_waited_while_a_month_was_archived_writes_nothing(
    march: Streamflow, copy: Path, tmp_path: Path
) -> None:
    """It has read which months are archived, and would lose the rows that only the other one delivered."""
    model = copy / "dbt_project" / "models" / "production" / "users.sql"
    model.write_text('{{ config(pre_hook="select count(*) from public.held") }}\n' + model.read_text())
    march.connection.execute("create table held ()")
    archived(march, tmp_path / "old")
    before = texts(march, "")
    rebuild = ("dbt", "run", "--full-refresh", "--select", "users")
    with paused(march, "own model", "--project-dir", copy, *rebuild) as late:
        archived(march, tmp_path / "old", MARCH)
    assert late.process.returncode == 1
    assert "months were published or removed while this waited: run the command again" in late.said[0]
    assert texts(march, "") == before
    assert run_copy(copy, march, *rebuild).returncode == 0
    assert texts(march, "") == before
    march.ok("verify")


def test_nothing_is_archived_while_the_last_month_of_a_table_is_unfinished() -> None:
    """Labels have no later month: if their restatement is given up, January is not carried by a later load any more."""

    def entry(table: str, day: str, load: int, event: str | None) -> Entry:
        date = dt.date.fromisoformat(day)
        return Entry(table, date, load, 1, "history", f"{table}_{load}", Decimal(0), [], None, event, [])

    users = [entry("users", JANUARY, 1, "published"), entry("users", FEBRUARY, 3, "published")]
    before = [entry("labels", JANUARY, 2, "published"), *users]
    for event in ("published", None):
        standing = sorted([*before, entry("labels", "2024-02-15", 4, event)], key=lambda one: one.as_of)
        with contextlib.nullcontext() if event else pytest.raises(WrongUsage, match="cannot be archived yet"):
            assert len(_dispensable(standing, dt.date(2024, 2, 1))) == 2


@pytest.mark.long
def test_what_needs_an_archived_month_says_where_it_is(march: Streamflow, months: Path, tmp_path: Path) -> None:
    march.ok("ingest", "004", "--data-dir", months)
    archived(march, tmp_path / "old", APRIL)
    where = f"archived in {tmp_path / 'old'}"
    state = march.state()
    late = march("ingest", "003", "--data-dir", months)
    assert late.code == 3
    assert where in late.err
    checked = march("check", "003", "--data-dir", months)
    assert (checked.code, where in checked.err) == (3, True), checked
    other = copy_month(months, "001", tmp_path / "other")
    set_value(other / "labels.csv", 3, "churn_label", "")
    for more in ([], ["--restate", "--reason", "wrong"], ["--dry-run"]):
        changed = march("ingest", "001", "--data-dir", tmp_path / "other", *more)
        assert changed.code == 2
        assert f"{where}, so these files cannot be compared with it" in changed.err
    user = march.value("select min(user_id) from users")
    kept = march("forget", user, "--reason", "asked")
    assert kept.code == 3
    assert "the archived files may contain these customers" in kept.err
    assert march.state() == state
    march.ok("archive", "--restore")
    march.ok("ingest", "003", "--data-dir", months)
    march.ok("verify")


@pytest.mark.long
def test_a_month_whose_tables_need_different_months_is_begun_in_none_without_them(
    march: Streamflow, months: Path, tmp_path: Path
) -> None:
    """April's usage is also built on January, because January was restated after March."""
    for month in ("000", "003"):
        other = copy_month(months, month, tmp_path / "other")
        set_value(other / "usage_agg_30d.csv", 3, "watch_hours_30d", "7.25")
    set_value(other / "payments_agg_90d.csv", 3, "failed_payments_90d", "7")
    restating = ("--data-dir", tmp_path / "other", "--restate", "--reason", "wrong")
    march.ok("ingest", "000", *restating)
    march.ok("ingest", "003", "--data-dir", months)
    archived(march, tmp_path / "old")
    before = march.state(), march.latest()
    refused = march("ingest", "003", *restating)
    assert refused.code == 3
    assert f"streamflow: this month is built on {JANUARY}, which is archived in {tmp_path / 'old'}" in refused.err
    assert "dbt" not in refused.err
    assert (march.state(), march.latest()) == before
    march.ok("archive", "--restore", JANUARY)
    march.ok("ingest", "003", *restating)
    march.ok("verify")


@pytest.mark.long
def test_a_table_that_an_archived_month_gets_leaves_it_archived(
    february: Streamflow, months: Path, copy: Path, tmp_path: Path
) -> None:
    archived(february, tmp_path / "old")
    declare(copy, PLANS)
    run_copy(copy, february, "models")
    assert run_copy(copy, february, "models", "training_set", "--overwrite").returncode == 0
    january = copy_month(months, "000", tmp_path / "data")
    user, other = (line.split(",")[0] for line in (january / "users.csv").read_text().splitlines()[1:3])
    (january / "plans.csv").write_text(f"offer,user_id,discount\ngold,{user},0.5\nsilver,{other},0.5\n")
    taken = run_copy(copy, february, "ingest", "000", "--data-dir", str(tmp_path / "data"))
    assert taken.returncode == 0, taken.stderr
    assert february.value("select count(*) from plans_snapshots where as_of = %s", JANUARY) == 2
    assert f"archived in {tmp_path / 'old'}" in run_copy(copy, february, "verify").stdout
    kept = run_copy(copy, february, "forget", user, "--reason", "asked")
    assert "the archived files may contain these customers" in kept.stderr
    again = run_copy(copy, february, "archive", "--before", FEBRUARY, "--to", str(tmp_path / "more"))
    assert again.returncode == 0, again.stderr
    assert run_copy(copy, february, "archive", "--restore", JANUARY).returncode == 0
    assert dates(february) == [JANUARY, FEBRUARY]
    assert run_copy(copy, february, "verify").returncode == 0
    # the newer month does not have the table, so all its customers have departed
    report = json.loads(run_copy(copy, february, "report", "001", "--json").stdout)["report"]
    plans = next(table for table in report["customers"] if table["table_name"] == "plans")
    assert (plans["delivered_before"], plans["customers_departed"], plans["change"]) == (2, 2, -1)


def test_only_the_file_that_was_written_comes_back(
    march: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moved = tmp_path / "old", tmp_path / "moved"
    archived(march, folder)
    folder.rename(moved)
    unseen = march.ok("verify").out
    assert "which cannot be seen from here" in unseen
    assert "; archived files not checked, because their folder cannot be reached from here: 6" in unseen
    missing = march("archive", "--restore")
    assert (missing.code, "give its present place with --from" in missing.err) == (3, True)
    file = moved / "labels_2024_01_31.parquet"
    kept = file.read_bytes()
    file.write_bytes(kept[:-9] + b"x" + kept[-8:])
    forged = march("archive", "--restore", "--from", moved)
    assert forged.code == 3
    assert "is not the file that was written" in forged.err
    moved.rename(folder)
    assert march("verify").code == 1
    (folder / file.name).unlink()
    assert "which is gone" in march("verify").out
    assert dates(march) == [FEBRUARY, MARCH]
    (tmp_path / "cold").write_bytes(kept)
    (folder / file.name).symlink_to(tmp_path / "cold")
    march.ok("verify")
    with monkeypatch.context() as patch:
        patch.setattr(archive, "_sha256", Mock(side_effect=PermissionError))
        assert "which cannot be seen from here" in march.ok("verify").out
    march.ok("archive", "--restore")
    march.ok("verify")


@pytest.mark.long
def test_months_are_kept_by_setting(january: Streamflow, months: Path, tmp_path: Path) -> None:
    january.ok("ingest", "001", "--data-dir", months)
    assert dates(january) == [JANUARY, FEBRUARY], "by default nothing goes"
    january.environment |= {"STREAMFLOW_KEEP_MONTHS": "2", "STREAMFLOW_ARCHIVE_DIR": str(tmp_path / "old")}
    said = january.ok("ingest", "002", "--data-dir", months)
    assert f"archived: {JANUARY} in {tmp_path / 'old'}" in said.err
    assert dates(january) == [FEBRUARY, MARCH]
    january.ok("verify")
    january.ok("report", "--index")
    january.ok("freeze", "--all")
    assert january.rows("select nspname from pg_namespace where nspname ~ '^as_of'") == [
        ("as_of_2024_02_29",), ("as_of_2024_03_31",)
    ]  # fmt: skip
    january.environment["STREAMFLOW_REPORT"] = "true"
    kept = january("ingest", "003", "--data-dir", months)
    assert kept.code == 5
    [page] = (Path(january.environment["STREAMFLOW_HOME"]) / "reports").glob("month_003_*.html")
    assert "Compared with month 002" in page.read_text(), "before that is archived"
    assert "`drop schema as_of_2024_02_29 cascade` in psql first" in kept.err
    january.connection.execute("drop schema as_of_2024_02_29 cascade")
    again = january.ok("ingest", "003", "--data-dir", months)
    assert ("nothing to do" in again.out, f"archived: {FEBRUARY}" in again.err) == (True, True)
    assert dates(january) == [MARCH, APRIL]

    january.ok("archive", "--restore")
    january.ok("forget", january.value("select max(user_id) from users"), "--reason", "asked")
    everything = [JANUARY, FEBRUARY, MARCH, APRIL]
    january.ok("ingest", "003", "--data-dir", months)
    assert dates(january) == everything, "what was restored stays until a month is published"
    set_value(copy_month(months, "001", tmp_path) / "usage_agg_30d.csv", 3, "watch_hours_30d", "7.25")
    january.ok("ingest", "001", "--data-dir", tmp_path, "--restate", "--reason", "wrong")
    assert dates(january) == everything, "the newest month does not carry the restated rows yet, and that is no failure"


@pytest.mark.long
def test_what_is_archived_gets_no_schema_and_loses_no_page(january: Streamflow, months: Path, tmp_path: Path) -> None:
    january.environment["STREAMFLOW_REPORT"] = "true"
    january.ok("ingest", "001", "--data-dir", months)
    [page] = (Path(january.environment["STREAMFLOW_HOME"]) / "reports").glob("month_001_*.html")
    before = page.read_text()
    archived(january, tmp_path / "old")
    january.environment["STREAMFLOW_FREEZE"] = "true"
    for month in ("000", "001"):
        said = january.ok("ingest", month, "--data-dir", months, "--force")
        assert "failed" not in said.err
    schemas = "select string_agg(nspname, ' ') from pg_namespace where nspname ~ '^as_of'"
    assert january.value(schemas) == "as_of_2024_02_29"
    assert page.read_text() == before


def test_what_parquet_needs_is_named_before_anything_is_done(
    march: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    folder = tmp_path / "out"
    for command in (
        ("archive", "--before", FEBRUARY, "--to", folder),
        ("training-set", "--as-of", JANUARY, "--label-as-of", FEBRUARY, "--out", folder / "train.parquet"),
    ):
        result = march(*command)
        assert (result.code, "pip install pyarrow" in result.err) == (2, True), result
    assert not folder.exists()
    assert dates(march) == [JANUARY, FEBRUARY, MARCH]
    march.environment["STREAMFLOW_KEEP_MONTHS"] = "2"
    refused = march("status")
    assert (refused.code, "STREAMFLOW_KEEP_MONTHS archives into Parquet" in refused.err) == (2, True), refused
