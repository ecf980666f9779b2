"""How production takes in months."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import TABLES, Streamflow
from tests.files import copy_month, set_value
from tests.test_gate import land_only, published

KEYS = "select conrelid::regclass::text, contype::text from pg_constraint where contype in ('p', 'f')"

WITNESS = """
create table witness (seen text, name text, transaction bigint);
create function witness() returns event_trigger language plpgsql as $$
begin
    if tg_event = 'sql_drop' then
        insert into public.witness
        select 'dropped', object_name, txid_current() from pg_event_trigger_dropped_objects()
        where object_type = 'view' and is_temporary;
    else
        insert into public.witness
        select 'created', objid::regclass::text, txid_current() from pg_event_trigger_ddl_commands()
        where object_type = 'view' and schema_name like 'pg_temp%';
    end if;
end
$$;
create event trigger views_come on ddl_command_end when tag in ('CREATE VIEW') execute function witness();
create event trigger views_go on sql_drop execute function witness();
"""
"""Records the temporary views that are created and dropped, with their transactions."""

GONE = "select min(user_id) from labels where user_id not in (select user_id from staging.labels)"
"""A customer of the month before who is not in this one."""


def test_no_temporary_view_outlives_its_transaction(january: Streamflow, months: Path) -> None:
    """If the server crashed, the view would stay, and depend on a staging table that the next landing replaces."""
    if january.on_citus:
        pytest.skip("event triggers are the coordinator's alone")
    january.connection.execute(WITNESS)
    january.ok("ingest", "001", "--data-dir", months)
    seen = january.rows(
        "select seen, transaction, count(*) from witness group by seen, transaction order by seen, transaction"
    )
    created = [rest for seen, *rest in seen if seen == "created"]
    assert sum(count for _, count in created) > 2 * len(TABLES)
    assert created == [rest for seen, *rest in seen if seen == "dropped"]


def test_the_first_month_leaves_every_key(streamflow: Streamflow, months: Path) -> None:
    streamflow.ok("init")
    assert streamflow.value("select count(*) from pg_tables where schemaname = 'public'") == 2 * len(TABLES)
    assert {len(rows) for rows in [*streamflow.production().values(), *streamflow.history().values()]} == {0}
    streamflow.ok("ingest", "000", "--data-dir", months)
    kinds = {(table, kind) for table, kind in streamflow.rows(KEYS)}
    assert kinds >= {(name, "p") for table in TABLES for name in (table, f"{table}_snapshots")}
    assert kinds >= {(table, "f") for table in TABLES if table != "users"}
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        streamflow.rows("insert into labels values ('nobody', true, '2024-01-31')")
    with pytest.raises(psycopg.Error, match="duplicate key"):  # Citus raises it as an internal error
        streamflow.rows("insert into users select * from users limit 1")


def test_counts_are_what_happened_to_production(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """For a new month, a late-arriving one and a restated one."""

    def production() -> dict[str, dict[str, Any]]:
        query = "select user_id, to_jsonb(t) - 'observed_as_of' from {} as t"
        return {table: dict(january.rows(query.format(table))) for table in TABLES}

    set_value(copy_month(months, "002", tmp_path) / "labels.csv", 4, "churn_label", "")
    runs = [("002", months), ("001", months), ("002", tmp_path, "--restate", "--reason", "a label was wrong")]
    for month, folder, *more in runs:
        before = production()
        counts = january.ok("ingest", month, "--data-dir", folder, *more, "--json").json["counts"]
        after = production()
        assert {count["table"]: (count["inserted"], count["updated"]) for count in counts} == {
            table: (
                len(after[table].keys() - before[table].keys()),
                sum(before[table][user] != row for user, row in after[table].items() if user in before[table]),
            )
            for table in TABLES
        }, month


@pytest.mark.long
@pytest.mark.parametrize("rebuilt", [True, False])
def test_months_that_are_taken_in_together_are_counted_one_by_one(
    march: Streamflow, months: Path, new_database: Callable[..., Streamflow], january_published: str, rebuilt: bool
) -> None:
    """When the second comes, the first is complete in history but not merged, as after a kill."""
    counts = "select table_name, as_of, rows_inserted, rows_updated from ops.history order by 1, 2"
    one_by_one, state = march.rows(counts), march.state()
    march.connection.close()
    together = new_database(january_published)
    together.ok("land", "001", "--data-dir", months)
    assert together.dbt("build", "--select", "+complete_months").success
    together.ok("land", "002", "--data-dir", months)
    assert together.dbt("build", *(["--full-refresh"] if rebuilt else [])).success
    assert together.rows(counts) == one_by_one
    assert together.state() == state


@pytest.mark.long
def test_files_that_are_those_of_the_month_before(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """Only the dates and one value differ; customers that the month before carried forward are carried again."""
    data = tmp_path / "data"
    copy_month(months, "001", data)
    january.ok("ingest", "001", "--data-dir", data)
    copy_month(months, "001", data, as_month="002")
    set_value(data / "month_002" / "usage_agg_30d.csv", 5, "watch_hours_30d", "7.25")
    counts = {
        count["table"]: count for count in january.ok("ingest", "002", "--data-dir", data, "--json").json["counts"]
    }
    carried = january.value(
        "select count(*) from users_snapshots where as_of = '2024-02-29' and observed_as_of < as_of"
    )
    assert carried > 0
    for table in TABLES:
        delivered = january.value(f"select count(*) from staging.{table}")
        changed = 1 if table == "usage_agg_30d" else 0
        assert counts[table] == {
            "table": table, "delivered": delivered, "inserted": 0, "updated": changed,
            "unchanged": delivered - changed, "carried_forward": carried,
        }  # fmt: skip
        assert january.value(f"select count(*) from {table} where observed_as_of = '2024-03-31'") == delivered
        assert january.value(f"select count(*) from {table} where observed_as_of = '2024-01-31'") == carried
        before, after = (
            january.rows(
                f"select to_jsonb(t) - 'as_of' - 'observed_as_of' - 'watch_hours_30d', observed_as_of = as_of"
                f" from {table}_snapshots as t where as_of = '{as_of}' order by user_id"
            )
            for as_of in ("2024-02-29", "2024-03-31")
        )
        assert before == after
    assert january("verify").code == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            "insert into users (user_id, observed_as_of) values ('stranger', '2024-01-31')",
            id="one more",
            marks=pytest.mark.long,
        ),
        pytest.param(f"delete from labels where user_id = ({GONE})", id="one less", marks=pytest.mark.long),
        pytest.param(f"update labels set observed_as_of = '2024-02-29' where user_id = ({GONE})", id="of another date"),
    ],
)
@pytest.mark.parametrize("by_hand", [False, pytest.param(True, marks=pytest.mark.long)], ids=["ingest", "by hand"])
def test_production_that_is_not_what_history_says_is_not_built_upon(
    january: Streamflow, months: Path, undisturbed: Any, change: str, by_hand: bool
) -> None:
    land_only(january, months / "month_001", 1)
    january.connection.execute(change.encode())
    if by_hand:
        result = january.dbt("build")
        assert not result.success
        assert any("streamflow verify" in str(node.message) for node in result.result.results)
    else:
        command = january("ingest", "001", "--data-dir", months)
        assert command.code == 3
        assert "streamflow verify" in command.err
    assert published(january) == ["2024-01-31"]
    assert january.dbt("build", "--full-refresh").success
    assert january.state() == undisturbed
    assert published(january) == ["2024-01-31", "2024-02-29"]


def test_history_that_cannot_be_built_ends_the_run(january: Streamflow, months: Path, undisturbed: Any) -> None:
    january.connection.execute("create table history.labels_2024_02_29 ()")
    before = january.production()
    result = january("ingest", "001", "--data-dir", months)
    assert result.code == 3
    assert "labels_snapshots" in result.err
    assert "already exists" in result.err
    assert january.production() == before
    assert published(january) == ["2024-01-31"]
    january.connection.execute("drop table history.labels_2024_02_29")
    january.ok("ingest", "001", "--data-dir", months)
    assert january.state() == undisturbed


@pytest.mark.long
def test_several_months_in_one_command(
    streamflow: Streamflow, new_database: Callable[[], Streamflow], months: Path, tmp_path: Path
) -> None:
    several = streamflow.ok("ingest", "000..003", "--data-dir", months)
    assert [line.split(",")[0] for line in several.out.splitlines() if ", as of " in line] == [
        f"month {month:03d} published" for month in range(4)
    ]
    assert "4 months in" in several.out
    at_once = streamflow.state()
    again = streamflow.ok("ingest", "000..003", "--data-dir", months, "--json").json
    assert [outcome["state"] for outcome in again] == ["unchanged"] * 4

    late = new_database()
    some = tmp_path / "some"
    copy_month(months, "000", some)
    copy_month(months, "002", some)
    assert late("ingest", "000..002", "--data-dir", some).code == 4
    copy_month(months, "001", some)
    states = [one["state"] for one in late.ok("ingest", "000..002", "--data-dir", some, "--json").json]
    assert states == ["unchanged", "published", "published"]

    one_by_one = new_database()
    for month in range(4):
        one_by_one.ok("ingest", str(month), "--data-dir", months)
    assert one_by_one.state() == at_once


@pytest.mark.long
def test_the_first_month_that_is_refused_is_the_last_that_is_tried(
    streamflow: Streamflow, months: Path, tmp_path: Path
) -> None:
    for month in ("000", "001", "002", "003"):
        copy_month(months, month, tmp_path)
    set_value(tmp_path / "month_002" / "labels.csv", 3, "churn_label", "maybe")
    result = streamflow("ingest", "000..003", "--data-dir", tmp_path)
    assert result.code == 1
    assert "month 002 refused" in result.err
    assert "labels.csv:3" in result.err
    assert "not tried: 003" in result.out
    assert streamflow.rows("select month from ops.published order by 1") == [("000",), ("001",)]
    assert streamflow.rows("select distinct month from ops.loads order by 1") == [("000",), ("001",), ("002",)]
    as_json = streamflow("ingest", "001..003", "--data-dir", tmp_path, "--json")
    assert as_json.code == 1
    assert [outcome["state"] for outcome in as_json.json] == ["unchanged", "refused"]
    shutil.rmtree(tmp_path / "month_002")
    as_json = streamflow("ingest", "001..003", "--data-dir", tmp_path, "--json")
    assert as_json.code == 4
    assert [outcome["state"] for outcome in as_json.json] == ["unchanged", "failed"]
    assert f"{tmp_path / 'month_002'}" in as_json.json[1]["message"]


def test_months_that_cannot_be_ingested_together(streamflow: Streamflow) -> None:
    for command in (
        "ingest 003..001",
        "ingest 000..x",
        "ingest 000..",
        "ingest 000..001 --as-of 2024-01-31",
        "ingest 000..001 --restate --reason wrong",
        "check 000..001",
    ):
        result = streamflow(*command.split())
        assert result.code == 2, command
        assert "Traceback" not in result.err
