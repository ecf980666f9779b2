"""A month from its files to its tables, through the command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, TABLES, Streamflow
from tests.files import Rows, copy_month, edit, set_value, value_at, write_month
from tests.pauses import PATIENCE, paused, start


def test_real_months(streamflow: Streamflow, real_months: Path) -> None:
    for month in ("000", "001"):
        result = streamflow.ok("ingest", month, "--data-dir", real_months, "--json").json
        assert not [audit for audit in result["audits"] if audit["status"] == "fail"]
    assert {audit["table_name"] for audit in result["audits"] if audit["finding"]} == {"users", "subscriptions"}

    assert streamflow.value("select count(*) from users") == 7043
    assert streamflow.value("select count(*) from subscriptions") == 7043
    for table in TABLES:
        assert streamflow.rows(f"select as_of::text, count(*) from {table}_snapshots group by 1 order by 1") == [
            ("2024-01-31", 7043),
            ("2024-02-29", 7043),
        ]
    assert streamflow.value("select count(*) from subscriptions where plan_stream_tv is null") == 1526
    hours = "select watch_hours_30d::text from usage_agg_30d{} where user_id = '7590-VHVEG'"
    assert streamflow.value(hours.format("_snapshots") + " and as_of = '2024-01-31'") == "24.483650766787413"
    assert streamflow.value(hours.format("")) == "24.21779534835315"
    assert streamflow.value("select count(*) from labels where churn_label") == 1701
    january = "select count(*) from labels_snapshots where churn_label and as_of = '2024-01-31'"
    assert streamflow.value(january) == 1869


@pytest.mark.long
def test_any_order_and_any_repetition_leave_production_the_same(
    new_database: Callable[[], Streamflow], months: Path
) -> None:
    in_order = new_database()
    for month in ("000", "001"):
        in_order.ok("ingest", month, "--data-dir", months)
    production, history = in_order.state()
    for month in ("000", "001", "001"):
        assert in_order.ok("ingest", month, "--data-dir", months, "--json").json["state"] == "unchanged"
        assert in_order.ok("ingest", month, "--data-dir", months, "--json", "--force").json["state"] == "published"
    assert in_order.state() == (production, history)

    reversed_order = new_database()
    for month in ("001", "000"):
        reversed_order.ok("ingest", month, "--data-dir", months)
    assert reversed_order.production() == production


def around(streamflow: Streamflow) -> list[tuple[Any, ...]]:
    """What belongs to the production tables beside their rows: identity, owner and grants; keys; views of others."""
    return streamflow.rows(
        "select oid::regclass::text as name, oid::text, relowner::regrole::text, relacl::text from pg_class"
        " where relnamespace = 'public'::regnamespace and relname = any(%s)"
        " union all select conname, oid::text, conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid = any(select to_regclass(name) from unnest(%s::text[]) as name)"
        " union all select viewname, definition, viewowner, null from pg_views where viewname = 'theirs' order by name",
        TABLES,
        TABLES,
    )


def test_full_refresh_mends_production_and_leaves_history_and_what_others_made(march: Streamflow) -> None:
    streamflow = march
    streamflow.connection.execute("create view theirs as select * from labels where churn_label")
    streamflow.connection.execute("grant select on labels to pg_monitor")
    before, kept = streamflow.state(), around(streamflow)
    assert sum("pg_monitor" in str(one) for one in kept) == sum("theirs" in one for one in kept) == 1
    streamflow.connection.execute("update usage_agg_30d set watch_hours_30d = 1")
    streamflow.connection.execute("delete from users where user_id in (select user_id from users limit 5)")
    streamflow.connection.execute("insert into users values ('ghost', null, null, null, null, null, '2030-01-01')")
    streamflow.connection.execute("insert into labels values ('ghost', true, '2030-01-01')")
    found = streamflow("verify")
    assert found.code == 1
    assert "rows that differ from what history says: 6" in found.out, "five who are gone, and one who is none"

    assert streamflow.dbt("build", "--full-refresh").success

    assert streamflow.state() == before
    assert around(streamflow) == kept
    assert streamflow("verify").code == 0


def test_production_is_mended_as_the_page_says_while_staging_holds_a_refused_month(
    march: Streamflow, months: Path, tmp_path: Path
) -> None:
    before, folder = march.state(), copy_month(months, "003", tmp_path)
    set_value(folder / "labels.csv", 2, "user_id", "stranger")
    assert march("ingest", "003", "--data-dir", tmp_path).code == 1
    march.connection.execute("update usage_agg_30d set watch_hours_30d = 1")
    assert march("verify").code == 1
    assert march.dbt("run", "--full-refresh", "--select", "path:models/production").success
    assert march.state() == before
    march.ok("verify")


TYPES = {
    "users": "user_id text, signup_date date, user_gender text, user_is_senior boolean, has_family boolean,"
    " has_dependents boolean",
    "subscriptions": "user_id text, months_active integer, plan_stream_tv boolean, plan_stream_movies boolean,"
    " contract_type text, paperless_billing boolean, monthly_fee numeric, total_paid numeric, net_service text,"
    " add_on_security boolean, add_on_backup boolean, add_on_device_protect boolean, add_on_support boolean",
    "usage_agg_30d": "user_id text, watch_hours_30d numeric, avg_session_mins_7d numeric, unique_devices_30d integer,"
    " skips_7d integer, rebuffer_events_7d integer",
    "payments_agg_90d": "user_id text, failed_payments_90d integer",
    "support_agg_90d": "user_id text, support_tickets_90d integer, ticket_avg_resolution_hrs_90d numeric",
    "labels": "user_id text, churn_label boolean",
}
"""The columns and types that were promised, written down once more apart from the declaration."""


def test_tables_have_the_types_that_were_promised(january: Streamflow) -> None:
    columns = (
        "select relname, string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum)"
        " from pg_attribute inner join pg_class on attrelid = pg_class.oid where attnum > 0 and not attisdropped"
        " and relnamespace = 'public'::regnamespace and relkind in ('r', 'p') group by relname"
    )
    production = {name: f"{types}, observed_as_of date" for name, types in TYPES.items()}
    history = {f"{name}_snapshots": f"{types}, as_of date, observed_as_of date" for name, types in TYPES.items()}
    assert dict(january.rows(columns)) == production | history


def test_late_month(january: Streamflow, months: Path) -> None:
    streamflow = january
    streamflow.ok("ingest", "002", "--data-dir", months)
    march = streamflow.rows("select * from users_snapshots where as_of = '2024-03-31' order by user_id")
    production_before = streamflow.production()

    result = streamflow.ok("ingest", "001", "--data-dir", months, "--json").json

    assert streamflow.rows("select * from users_snapshots where as_of = '2024-03-31' order by user_id") == march
    february = dict(
        streamflow.rows("select user_id, observed_as_of::text from users_snapshots where as_of = '2024-02-29'")
    )
    delivered = {line.split(",")[0] for line in (months / "month_001" / "users.csv").read_text().splitlines()[1:]}
    first = {line.split(",")[0] for line in (months / "month_000" / "users.csv").read_text().splitlines()[1:]}
    assert set(february) == delivered | first
    assert {user for user, observed in february.items() if observed == "2024-02-29"} == delivered
    production = streamflow.production()
    unseen_since = {row[0] for row in production["users"]} - {row[0] for row in production_before["users"]}
    assert unseen_since == {
        user for user in delivered if (user,) not in {(row[0],) for row in production_before["users"]}
    }
    assert result["counts"][0]["carried_forward"] == len(first - delivered)
    kept = {row for table in production_before.values() for row in table if str(row[-1]) == "2024-03-31"}
    assert kept <= {row for table in production.values() for row in table}


@pytest.mark.long
def test_customer_of_a_late_month_is_known_afterwards(january: Streamflow, months: Path, tmp_path: Path) -> None:
    streamflow = january
    folder = copy_month(months, "001", tmp_path)
    for table in TABLES:
        path = folder / f"{table}.csv"
        edit(path, lambda rows: rows.append(["only-in-001", *rows[1][1:]]))
    streamflow.ok("ingest", "002", "--data-dir", months)
    streamflow.ok("ingest", "001", "--data-dir", tmp_path)
    streamflow.ok("ingest", "003", "--data-dir", months)

    dates = streamflow.rows(
        "select as_of::text, observed_as_of::text from users_snapshots where user_id = 'only-in-001' order by 1"
    )
    assert dates == [("2024-02-29", "2024-02-29"), ("2024-04-30", "2024-02-29")]


def test_departed_customer_is_carried_forward(january: Streamflow, months: Path) -> None:
    streamflow = january
    streamflow.ok("ingest", "001", "--data-dir", months)
    delivered = (months / "month_001" / "users.csv").read_text()
    departed = [row for row in streamflow.table("users") if row[0] not in delivered]
    assert departed
    assert {str(row[-1]) for row in departed} == {"2024-01-31"}
    for table in TABLES:
        rows = streamflow.rows(
            f"select user_id, observed_as_of::text from {table}_snapshots"
            " where as_of = '2024-02-29' and observed_as_of < as_of"
        )
        assert sorted(rows) == sorted((row[0], "2024-01-31") for row in departed)


def test_missing_month(streamflow: Streamflow, months: Path) -> None:
    result = streamflow("ingest", "017", "--data-dir", months)
    assert result.code == 4
    assert "month_017 is missing" in result.err
    assert "month_004" in result.err
    assert streamflow.value("select to_regclass('ops.loads')") is None, "no attempt at a month"


def test_missing_stays_missing_and_numbers_keep_every_digit(
    streamflow: Streamflow, months: Path, tmp_path: Path
) -> None:
    folder = copy_month(months, "000", tmp_path)
    set_value(folder / "usage_agg_30d.csv", 2, "watch_hours_30d", "1.1234567890123456789012345678901234567890")
    set_value(folder / "usage_agg_30d.csv", 2, "skips_7d", "")
    set_value(folder / "users.csv", 2, "has_family", "")
    set_value(folder / "users.csv", 2, "user_gender", "")
    set_value(folder / "subscriptions.csv", 2, "plan_stream_tv", "")
    user = value_at(folder / "users.csv", 2, "user_id")

    streamflow.ok("ingest", "000", "--data-dir", tmp_path)

    for suffix in ("", "_snapshots"):
        usage = f"select watch_hours_30d::text, skips_7d from usage_agg_30d{suffix} where user_id = %s"
        assert streamflow.rows(usage, user) == [("1.1234567890123456789012345678901234567890", None)]
        users = f"select has_family, user_gender from users{suffix} where user_id = %s"
        assert streamflow.rows(users, user) == [(None, None)]
        subscriptions = f"select plan_stream_tv, add_on_backup from subscriptions{suffix} where user_id = %s"
        assert streamflow.rows(subscriptions, user) == [(None, None)]


def test_columns_in_any_order_and_optional_ones_later(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path)
    edit(folder / "subscriptions.csv", _reverse_columns)
    streamflow.ok("ingest", "000", "--data-dir", tmp_path)
    streamflow.ok("ingest", "003", "--data-dir", months)

    unknown = "select bool_and(add_on_support is null) from subscriptions_snapshots where as_of = '2024-01-31'"
    assert streamflow.value(unknown)
    assert streamflow.value("select count(*) from subscriptions where add_on_support is not null") > 0
    fees = "select user_id, monthly_fee::text from subscriptions_snapshots where as_of = '2024-01-31'"
    header, *lines = (months / "month_000" / "subscriptions.csv").read_text().splitlines()
    fee = header.split(",").index("monthly_fee")
    assert dict(streamflow.rows(fees)) == {line.split(",")[0]: line.split(",")[fee] for line in lines}


def _reverse_columns(rows: Rows) -> None:
    for row in rows:
        row.reverse()


def test_other_files_for_a_published_month_are_refused(january: Streamflow, months: Path, tmp_path: Path) -> None:
    streamflow = january
    before = streamflow.state()
    folder = copy_month(months, "000", tmp_path)
    set_value(folder / "usage_agg_30d.csv", 3, "skips_7d", "999")
    set_value(folder / "usage_agg_30d.csv", 9, "skips_7d", "999")

    result = streamflow("ingest", "000", "--data-dir", tmp_path)

    assert result.code == 1
    assert "usage_agg_30d.csv  rows that differ from history: 2" in result.err
    assert streamflow.state() == before
    assert streamflow.dbt("build").success
    assert streamflow.state() == before


def test_other_form_of_the_same_rows_is_nothing_new(january: Streamflow, months: Path, tmp_path: Path) -> None:
    streamflow = january
    folder = copy_month(months, "000", tmp_path)
    edit(folder / "labels.csv", lambda rows: rows.insert(1, rows.pop()))
    assert streamflow.ok("ingest", "000", "--data-dir", tmp_path, "--json").json["state"] == "unchanged"


def test_row_count_against_the_month_before(january: Streamflow, months: Path, tmp_path: Path) -> None:
    streamflow = january
    folder = copy_month(months, "000", tmp_path, as_month="001")
    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: rows.__delitem__(slice(46, None)))
    warned = streamflow.ok("check", "001", "--data-dir", tmp_path, "--json").json
    assert {audit["audit_name"] for audit in warned["audits"] if audit["status"] == "warn"} == {
        f"audit_{table.split('_')[0]}_row_count_close_to_month_before" for table in TABLES
    }
    assert "differs by 25 % from the month before" in warned["warnings"][0]["reason"]

    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: rows.__delitem__(slice(30, None)))
    before = streamflow.state()
    refused = streamflow("ingest", "001", "--data-dir", tmp_path)
    assert refused.code == 1
    assert "differs by 52 % from the month before" in refused.err
    assert streamflow.state() == before


def test_values_that_are_missing_are_told_by_column(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "001", tmp_path)
    edit(folder / "labels.csv", lambda rows: [row.__setitem__(1, "") for row in rows[1:]])
    edit(folder / "users.csv", lambda rows: [row.__setitem__(2, "") for row in rows[1:9]])
    refused = january("check", "001", "--data-dir", tmp_path)
    assert refused.code == 1
    assert "labels.csv  churn_label  100 % of the values are missing  [audit_labels_few_values_missing]" in refused.err
    shutil.copy(months / "month_001" / "labels.csv", folder)
    warned = january.ok("check", "001", "--data-dir", tmp_path).out
    assert re.search(r"users.csv +user_gender +1\d % of the values are missing", warned), warned


def test_warnings_are_recorded_shown_and_do_not_refuse(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path)
    set_value(folder / "subscriptions.csv", 5, "months_active", "7")
    set_value(folder / "subscriptions.csv", 5, "total_paid", "0")
    set_value(folder / "subscriptions.csv", 7, "months_active", "7")
    set_value(folder / "subscriptions.csv", 7, "total_paid", "0")
    result = streamflow.ok("ingest", "000", "--data-dir", tmp_path)
    assert "1 warned" in result.out
    assert re.search(r"  subscriptions.csv:5  total_paid +.* \(and 1 more like it\)\n", result.out), result.out
    assert streamflow.rows("select audit_name from ops.audits where status = 'warn'") == [
        ("audit_subscriptions_nothing_paid_only_in_first_month",)
    ]


def test_check_publishes_nothing(streamflow: Streamflow, months: Path) -> None:
    assert streamflow.ok("check", "000", "--data-dir", months, "--json").json["state"] == "checked"
    assert streamflow.dbt("build").success
    assert {len(rows) for rows in [*streamflow.production().values(), *streamflow.history().values()]} == {0}


def test_dry_run_changes_nothing(
    new_database: Callable[..., Streamflow], january_published: str, months: Path, tmp_path: Path
) -> None:
    empty = new_database()
    plan = empty.ok("ingest", "000", "--data-dir", months, "--dry-run", "--json").json
    assert plan["action"] == "land, audit and publish"
    assert empty.value("select to_regnamespace('ops') is null")
    january = new_database(january_published)
    plan = january.ok("ingest", "000", "--data-dir", months, "--dry-run", "--json").json
    assert plan["action"] == "nothing: published already"
    dry = ("--data-dir", months, "--dry-run")
    assert "would do: land, audit and publish" in january.ok("ingest", "000", "--force", *dry).out
    for data in (january, empty):
        assert data("ingest", "001", "--restate", "--reason", "why", *dry).code == 2
    folder = copy_month(months, "000", tmp_path)
    set_value(folder / "labels.csv", 3, "churn_label", "")
    other = ("ingest", "000", "--data-dir", tmp_path, "--dry-run")
    assert "compare with what is published, and refuse" in january.ok(*other).out
    assert "land, audit and replace what is published" in january.ok(*other, "--restate", "--reason", "why").out
    assert january.value("select count(*) from ops.loads") == 1


def test_another_as_of(streamflow: Streamflow, months: Path) -> None:
    streamflow.ok("ingest", "000", "--data-dir", months, "--as-of", "2024-02-05")
    assert streamflow.rows("select distinct as_of::text, observed_as_of::text from labels_snapshots") == [
        ("2024-02-05", "2024-02-05")
    ]


def test_second_ingest_is_refused_and_names_the_first(january: Streamflow, months: Path) -> None:
    streamflow = january
    streamflow.connection.execute("select pg_advisory_lock(%s, %s)", [0x5F10, 1])
    streamflow.connection.execute(
        "insert into ops.loads (command, month, as_of, started_by, data_dir)"
        " values ('ingest', '007', '2024-08-31', 'ada@host (process 42)', '/data')"
    )
    result = streamflow("ingest", "001", "--data-dir", months)
    assert result.code == 3
    assert "ingest of month 007, begun by ada@host (process 42)" in result.err
    streamflow.connection.execute("select pg_advisory_unlock_all()")
    streamflow.ok("ingest", "001", "--data-dir", months)
    assert streamflow.value("select state from ops.loads where month = '007'") == "interrupted"


def test_status_knows_every_month(
    new_database: Callable[..., Streamflow], january_published: str, months: Path, tmp_path: Path
) -> None:
    assert new_database().ok("status", "--json").json == []
    streamflow = new_database(january_published)
    folder = copy_month(months, "001", tmp_path)
    set_value(folder / "labels.csv", 2, "churn_label", "maybe")
    streamflow("ingest", "001", "--data-dir", tmp_path)
    january, february = streamflow.ok("status", "--json").json
    assert (january["state"], january["month"], january["as_of"]) == ("published", "000", "2024-01-31")
    assert january["audits_passed"] == 54
    assert len({file["sha256"] for file in january["files"]}) == len(TABLES)
    assert january["versions"]["audited_with"].startswith("dbt_expectations ")
    assert february["state"] == "refused"
    assert "000" in streamflow.ok("status").out


def test_nothing_goes_out(streamflow: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    asked: list[object] = []
    look_up = socket.getaddrinfo

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("the network is closed")

    def find_database(host: str, *arguments: Any, **named: Any) -> Any:
        return (look_up if host == streamflow.environment["POSTGRES_HOST"] else refuse)(host, *arguments, **named)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket.socket, "sendto", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", find_database)
    streamflow.ok("ingest", "000", "--data-dir", months)
    assert asked == []


def test_check_says_what_ingest_would_of_a_published_month(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path)
    set_value(folder / "labels.csv", 2, "churn_label", "")
    for command in ("check", "ingest"):
        result = january(command, "000", "--data-dir", tmp_path)
        assert result.code == 1
        assert "rows that differ from history: 1" in result.err


def test_doubled_rows_of_a_published_month_are_refused(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path)
    edit(folder / "labels.csv", lambda rows: rows.append(rows[1]))
    result = january("ingest", "000", "--data-dir", tmp_path)
    assert result.code == 1
    assert "rows that differ from history: 1" in result.err


def test_a_run_that_changes_nothing_says_so(january: Streamflow, months: Path) -> None:
    for arguments in ((), ("--force",)):
        counts = january.ok("ingest", "000", "--data-dir", months, "--json", *arguments).json["counts"]
        assert {(count["inserted"], count["updated"], count["unchanged"]) for count in counts} == {(0, 0, 60)}
    [january_row] = january.ok("status", "--json").json
    assert january_row["counts"][0]["inserted"] == 60


@pytest.mark.long
def test_tables_that_are_gone_are_missed_and_made_anew(february: Streamflow, months: Path) -> None:
    """With the customers whom February did not deliver, too."""
    before = february.state()
    february.connection.execute("drop table users cascade")
    result = february("ingest", "002", "--data-dir", months)
    assert result.code == 3
    assert "tables that are gone: public.users" in result.err
    assert february.dbt("build", "--full-refresh").success
    assert february.state() == before
    february.ok("ingest", "002", "--data-dir", months)
    february.ok("verify")


def landing_memory(streamflow: Streamflow, folder: Path, rows: int) -> float:
    """By how many MB a process grows that lands a month with so many rows in one table, of 100 bytes each."""
    month = folder / "month_000"
    write_month(month, {"somebody": 1})
    with (month / "usage_agg_30d.csv").open("a", encoding="utf-8") as stream:
        stream.writelines(f"{number:068},1.123456789012345678,1.5,2,0,0\n" for number in range(rows))
    command = [sys.executable, "-m", "tests.bench.landing_memory", str(folder)]
    environment = {**os.environ, **streamflow.environment}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert streamflow.value("select count(*) from staging.usage_agg_30d") == rows + 1
    return float(done.stdout)


def test_memory_does_not_grow_with_the_file(streamflow: Streamflow, tmp_path: Path) -> None:
    """The larger file has 40 MB, so whoever keeps it, or a value of each row, needs more than that."""
    small = landing_memory(streamflow, tmp_path / "small", 20_000)
    assert landing_memory(streamflow, tmp_path / "large", 400_000) - small < 20


def test_two_at_the_same_moment_on_an_empty_database(streamflow: Streamflow, months: Path) -> None:
    """The first has the run lock, and is about to make the ledger."""
    with paused(streamflow, "schemas", "ingest", "000", "--data-dir", months) as first:
        second = start(streamflow, "ingest", "000", "--data-dir", months)
        _, told = second.communicate(PATIENCE)
        assert second.returncode == 3
        assert "another run is under way on this database: a run that has just begun" in told
    assert first.process.returncode == 0, first.said
    assert streamflow.value("select count(*) from users") == 60
