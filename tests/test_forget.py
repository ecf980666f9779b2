"""A forgotten customer is in no table any more and does not come back; the rows of all others stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from loader.contract.customers import found
from loader.contract.tables import Reference, load_contract
from loader.upkeep import forget
from tests.conftest import TABLES, Streamflow, rejects_of
from tests.files import copy_month, edit, set_value, value_at
from tests.pauses import paused
from tests.test_crashes import wait_until
from tests.test_gate import land_only
from tests.test_proof import do, unguarded

WHY = ("--reason", "they asked for it")


def customer(months: Path, line: int = 3) -> str:
    """One of January's customers."""
    return value_at(months / "month_000" / "users.csv", line, "user_id")


def mentions(streamflow: Streamflow, text: str) -> list[str]:
    """The tables of the whole database in which a row contains the text."""
    tables = streamflow.rows(
        "select attrelid::regclass::text, array_agg(attname::text)"
        " from pg_attribute inner join pg_class on pg_class.oid = attrelid and relkind in ('r', 'm')"
        " where attnum > 0 and not attisdropped"
        " and relnamespace::regnamespace::text !~ '^(pg_|information_schema|citus)'"
        " and attrelid not in (select inhparent from pg_inherits) group by attrelid"
    )
    found = []
    for name, columns in tables:
        query = sql.SQL("select count(*) > 0 from {} where concat_ws('|', {}) like %s").format(
            sql.SQL(name), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        if streamflow.connection.execute(query, [f"%{text}%"]).fetchone() == (True,):
            found.append(name)
    return found


def others(state: tuple[dict[str, Any], dict[str, Any]], gone: set[str]) -> Any:
    """Production and history without some customers."""
    return [{name: [row for row in rows if row[0] not in gone] for name, rows in part.items()} for part in state]


def test_a_customer_is_forgotten_everywhere(restated: tuple[Streamflow, Path], months: Path) -> None:
    streamflow, manifest = restated
    user = customer(months)
    land_only(streamflow, months / "month_002", 2)
    error = f"dbt failed\n  model x: Database Error\n  DETAIL:  Failing row contains ({user})."
    streamflow.connection.execute("update ops.loads set error = %s", [error])  # of an earlier version
    there = mentions(streamflow, user)
    assert {"labels", "history.labels_2024_01_31", "restated.labels_2024_02_29", "staging.labels"} <= set(there)
    before = streamflow.state()
    streamflow.connection.execute("analyze")
    in_statistics = "select count(*) from pg_stats where strpos(histogram_bounds::text, %s) > 0"
    assert streamflow.on_citus or streamflow.value(in_statistics, user) > len(TABLES)  # Citus has them on its nodes

    done = streamflow.ok("forget", user, *WHY, "--json").json

    assert (done["customers"], done["before"]) == (1, 0)
    assert done["rows"] >= 4 * len(TABLES) + 1
    assert mentions(streamflow, user) == []
    assert streamflow.value(in_statistics, user) == 0
    assert list(streamflow.state()) == others(before, {user})
    verdicts = streamflow.ok("verify", "--manifest", manifest, "--json").json
    findings = {verdict["finding"] for verdict in verdicts if verdict["as_of"]}
    since = "without those who were forgotten since"
    assert findings == {f"as it was written, {since}", f"kept as it was before it was restated, {since}"}
    assert manifest.read_text().splitlines()[-1] == done["manifest"]
    assert "customers forgotten: 1" in done["manifest"]
    assert user not in manifest.read_text()


def test_a_column_that_names_the_customers_comes_after_a_restatement(
    restated: tuple[Streamflow, Path], months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No month has brought it, then one has landed with it, and then history has it, but not the kept copy."""
    streamflow, _ = restated
    [key] = streamflow.rows("select conname from pg_constraint where conrelid = 'labels'::regclass and contype = 'f'")
    streamflow.connection.execute(sql.SQL("alter table labels drop constraint {}").format(sql.Identifier(*key)))
    tables = []
    for table in load_contract():
        buyer = table.columns[0].model_copy(update={"name": "buyer"})
        changed = {"columns": [*table.columns, buyer], "references": Reference(table="users", columns=("buyer",))}
        tables.append(table.model_copy(update=changed) if table.name == "labels" else table)
    monkeypatch.setattr(forget, "load_contract", lambda: found(tables))
    user, landed, third = (customer(months, line) for line in (3, 4, 5))

    assert streamflow.ok("forget", user, *WHY, "--json").json["left_alone"] == ["labels"]
    streamflow.connection.execute("alter table staging.labels add column buyer text")
    streamflow.connection.execute("update staging.labels set buyer = %s where user_id = %s", [landed, third])
    streamflow.ok("forget", landed, *WHY)
    assert streamflow.value("select count(*) from staging.labels where user_id = %s", third) == 0
    streamflow.connection.execute("alter table labels_snapshots add column buyer text")
    streamflow.connection.execute("alter table labels add column buyer text")
    streamflow.ok("forget", third, *WHY)
    streamflow.connection.execute("alter table labels_snapshots drop column buyer")
    streamflow.connection.execute("alter table labels drop column buyer")
    streamflow.ok("verify")


@pytest.mark.parametrize(
    "way",
    [
        "restated",
        *(pytest.param(way, marks=pytest.mark.long) for way in ("landed before", "the next month", "full refresh")),
    ],
)
def test_a_forgotten_customer_does_not_come_back(
    january: Streamflow, months: Path, tmp_path: Path, undisturbed: Any, way: str
) -> None:
    user = customer(months)
    if way == "landed before":
        land_only(january, months / "month_001", 1)
    january.ok("forget", user, *WHY)
    if way == "landed before":
        assert january.dbt("build").success
    else:
        january.ok("ingest", "001", "--data-dir", months)
    if way == "restated":
        folder = copy_month(months, "001", tmp_path)
        set_value(folder / "labels.csv", 9, "churn_label", "")
        january.ok("ingest", "001", "--data-dir", tmp_path, "--restate", "--reason", "a label")
        january.ok("ingest", "001", "--data-dir", months, "--restate", "--reason", "no, it was right")
    if way == "full refresh":
        assert january.dbt("build", "--full-refresh").success
    assert january.ok("ingest", "000", "--data-dir", months, "--json").json["state"] == "unchanged"
    assert mentions(january, user) == []
    assert list(january.state()) == others(undisturbed, {user})
    january.ok("verify")
    counts = january.ok("status", "--json").json[-1]["counts"]
    assert all(count["unchanged"] >= 0 and count["carried_forward"] >= 0 for count in counts)


def test_status_counts_the_rows_that_are_left(january: Streamflow, months: Path) -> None:
    january.ok("forget", customer(months), *WHY)
    left = sum(january.value(f"select count(*) from {table}_snapshots") for table in TABLES)
    assert f" {left:,} " in january.ok("status").out


def test_lines_of_bad_rows_are_those_of_the_file(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """Rows of forgotten customers do not land, but still count as lines of the file."""
    january.ok("forget", customer(months, 2), customer(months, 3), *WHY)
    folder = copy_month(months, "001", tmp_path)
    set_value(folder / "usage_agg_30d.csv", 20, "watch_hours_30d", "-1")
    refused = january("ingest", "001", "--data-dir", tmp_path)
    assert refused.code == 1
    assert "usage_agg_30d.csv:20" in refused.err
    set_value(folder / "labels.csv", 15, "churn_label", "maybe")
    refused = january("ingest", "001", "--data-dir", tmp_path)
    assert "labels.csv:15" in refused.err
    assert "usage_agg_30d.csv:20" in refused.err
    assert mentions(january, customer(months, 2)) == []


def test_rejects_go_too(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "001", tmp_path)
    user = value_at(folder / "users.csv", 4, "user_id")
    edit(folder / "users.csv", lambda rows: rows.append(list(rows[3])))
    assert january("ingest", "001", "--data-dir", tmp_path).code == 1
    assert user in {problem["value"] for problem in rejects_of(january, "001")}
    path = Path(january.environment["STREAMFLOW_HOME"]) / "rejects" / "month_001.csv"
    before = path.read_text()
    assert january.ok("forget", user, *WHY, "--json").json["rejects"] == 1
    path.write_text(before)  # as if the first run had been cut off before it deleted the file
    assert january.ok("forget", user, *WHY, "--json").json["rejects"] == 1
    assert not path.exists()


def test_a_table_of_somebodys_own_that_refers_to_customers_is_in_the_way(january: Streamflow, months: Path) -> None:
    if january.on_citus:
        pytest.skip("Citus does not check a key of a table that is not distributed when the customer is deleted")
    user, before = customer(months, 2), january.state()
    january.connection.execute("create table ours (who text constraint of_ours references users)")
    january.connection.execute("insert into ours values (%s)", [user])
    refused = january("forget", user, *WHY)
    assert refused.code == 3
    assert 'violates foreign key constraint "of_ours"' in refused.err
    assert (user in refused.err, ".." in refused.err) == (False, False)
    assert "Drop what is in the way, try again, then recreate it." in refused.err
    assert january.state() == before
    january.connection.execute("alter table ours drop constraint of_ours")
    assert january.ok("forget", user, *WHY, "--json").json["customers"] == 1
    assert list(january.state()) == others(before, {user})


def test_a_list_in_a_file_and_odd_names(january: Streamflow, months: Path, tmp_path: Path) -> None:
    users = [customer(months, line) for line in (2, 5, 7)]
    before = january.state()
    listed = tmp_path / "who"
    listed.write_text("\n".join(users[1:]) + "\n\n")
    done = january.ok("forget", users[0], "--from", listed, *WHY, "--json").json
    assert done["customers"] == 3
    assert list(january.state()) == others(before, set(users))
    again = january.ok("forget", users[1], *WHY)
    assert "0 customers forgotten, 0 rows of theirs deleted; 1 had been forgotten before" in again.out
    assert january.value("select count(*) from ops.chain") == 2
    refused = january("forget", "'; drop table labels; --", *WHY)
    assert refused.code == 2
    assert """nobody was forgotten: no table has a row of "'; drop table labels; --". Write""" in refused.err
    january.ok("verify")
    listed.write_text("".join(f"{user}\n" for user in users), encoding="utf-16-be")
    refused = january("forget", "--from", listed, *WHY)
    assert refused.code == 2
    assert "who is not UTF-8: is it a list of customers, one per line?" in refused.err


@pytest.mark.long
def test_a_month_follows_one_of_whom_all_are_forgotten(january: Streamflow, months: Path, tmp_path: Path) -> None:
    listed = tmp_path / "who"
    listed.write_text("\n".join(user for (user,) in january.rows("select user_id from users")))
    january.ok("forget", "--from", listed, *WHY)
    january.ok("ingest", "001", "--data-dir", months)
    assert january.value("select count(*) from users") > 0
    january.ok("report", "001")
    january.connection.execute("drop table labels cascade")
    assert january.dbt("build").success
    assert "production is out of date" not in january.ok("doctor").out
    january.ok("verify")


@pytest.mark.parametrize("arguments", [("nobody", *WHY), ("--reason", "why"), ("{user}",), ("{user}", "nobody", *WHY)])
def test_what_is_refused_changes_nothing(january: Streamflow, months: Path, arguments: tuple[str, ...]) -> None:
    before = january.state()
    result = january("forget", *(argument.format(user=customer(months)) for argument in arguments))
    assert result.code == 2, result
    assert january.state() == before
    assert january.value("select count(*) from ops.forgotten") == 0
    january.ok("verify")


def test_all_or_nothing(january: Streamflow, months: Path) -> None:
    """A failure at the last step leaves everything unchanged."""
    before = january.state()
    january.connection.execute(b"alter table ops.forgotten add constraint never check (false)")
    assert january("forget", customer(months), *WHY).code == 3
    assert january.state() == before
    january.ok("verify")
    january.connection.execute(b"alter table ops.forgotten drop constraint never")
    january.ok("forget", customer(months), *WHY)


def test_killed_at_its_last_step(january: Streamflow, months: Path) -> None:
    before, user = january.state(), customer(months)
    with paused(january, "forgotten", "forget", user, *WHY) as run:
        assert january.state() == before, "readers do not wait"
        run.process.kill()
    wait_until(january, "select count(*) = 0 from pg_locks where locktype = 'advisory'")
    assert january.state() == before
    january.ok("verify")
    january.ok("forget", user, *WHY)
    assert mentions(january, user) == []


def test_killed_before_it_cleaned_up(january: Streamflow, months: Path) -> None:
    """The same command, run again, cleans up."""
    user = customer(months)
    with paused(january, "vacuum", "forget", user, *WHY) as run:
        run.process.kill()
    wait_until(january, "select count(*) = 0 from pg_locks where locktype = 'advisory'")
    cleaned = "select vacuum_count from pg_stat_user_tables where relid = 'public.users'::regclass"
    before = january.value(cleaned)
    assert january.ok("forget", user, *WHY, "--json").json["before"] == 1
    assert january.on_citus or january.value(cleaned) == before + 1
    january.ok("verify")
    january.connection.execute("drop table labels cascade")  # as if it were declared and not built yet
    january.ok("forget", user, *WHY)


def test_nothing_is_forgotten_in_a_ledger_that_was_tampered_with(january: Streamflow, months: Path) -> None:
    """Otherwise the ledger would record what was forged as right."""
    january.connection.execute(b"update ops.history set checksum = 0 where table_name = 'labels'")
    result = january("forget", customer(months), *WHY)
    assert result.code == 3
    assert "labels of 2024-01-31: its entry in the ledger is not the one that was published" in result.err


def test_a_tombstone_that_is_deleted_is_missed(january: Streamflow, months: Path) -> None:
    january.ok("forget", customer(months, 3), customer(months, 4), *WHY)
    january.ok("verify")
    january.connection.execute(
        "delete from ops.forgotten where tombstone = (select tombstone from ops.forgotten limit 1)"
    )
    [wrong] = [one for one in january("verify", "--json").json if not one["sound"]]
    assert wrong["finding"] == "ops.forgotten: 1 of the customers whom link 2 of ops.chain tells of"


def test_rows_of_a_table_that_is_no_longer_declared_go_too(january: Streamflow, months: Path) -> None:
    """It landed and was never published, so that no later landing replaces it."""
    january.connection.execute("create unlogged table staging.notes (note text)")
    january.connection.execute("insert into staging.notes values (%s)", [f"of {customer(months)}"])
    january.connection.execute("create unlogged table staging.of_somebody (note text)")
    january.connection.execute("insert into staging.of_somebody values ('kept')")
    january.connection.execute("update ops.loads set files = files || jsonb_build_object('table', 'notes')")
    january.ok("forget", customer(months), *WHY)
    assert mentions(january, customer(months)) == []
    assert january.value("select count(*) from staging.of_somebody") == 1


def test_what_was_forged_before_is_found_afterwards(january: Streamflow, months: Path) -> None:
    partition = "history.labels_2024_01_31"
    someone = f"(select max(user_id) from {partition})"
    change = f"update {partition} set churn_label = churn_label is not true where user_id = {someone}"
    do(january, unguarded(partition, change))
    january.ok("forget", customer(months), *WHY)
    assert january("verify").code == 1


def test_history_still_refuses_changes(january: Streamflow, months: Path) -> None:
    january.ok("forget", customer(months), *WHY)
    query = "select count(*) from pg_trigger where tgfoid = 'ops.refuse_change'::regproc and tgenabled <> 'O'"
    assert january.value(query) == 0
