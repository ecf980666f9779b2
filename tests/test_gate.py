"""Only a load whose audits all ran and passed gets past the gate, whichever way dbt is run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from loader.database import Database, ops_ddl
from loader.delivery import Delivery
from loader.landing import land
from tests.conftest import TABLES, Streamflow, run_copy
from tests.files import copy_month, edit, set_value


@pytest.fixture
def landed(january: Streamflow, months: Path) -> Streamflow:
    """January is published, February is landed."""
    streamflow = january
    land_only(streamflow, months / "month_001", 1)
    return streamflow


def land_only(streamflow: Streamflow, folder: Path, month: int, restates: str | None = None) -> None:
    """Land a month and leave the rest to dbt."""
    why = ["--restate", "--reason", restates] if restates else []
    streamflow.ok("land", str(month), "--data-dir", folder.parent, *why)


def published(streamflow: Streamflow) -> list[str]:
    """The dates that are published, oldest first."""
    return [as_of for (as_of,) in streamflow.rows("select distinct as_of::text from ops.published order by 1")]


def statuses(result: Any) -> dict[str, str]:
    """Name of audit or model -> how it ended."""
    nodes = [node for node in result.result.results if node.node.resource_type in {"test", "model"}]
    return {node.node.name: str(node.status) for node in nodes}


def test_build_on_an_empty_database(streamflow: Streamflow) -> None:
    assert streamflow.dbt("build").success
    tables = streamflow.rows("select count(*) from pg_tables where schemaname = 'public'")
    assert tables == [(12,)]


def test_build_by_hand_publishes_what_was_landed(landed: Streamflow, undisturbed: Any) -> None:
    assert landed.dbt("build").success
    assert landed.state() == undisturbed
    assert published(landed) == ["2024-01-31", "2024-02-29"]
    assert [month["last_attempt"] for month in landed.ok("status", "--json").json] == ["published", "published"]
    assert "since" not in landed.ok("status").out, "nothing was landed after it"


@pytest.mark.long
def test_dbt_by_hand_needs_no_more_than_where_the_database_is(
    landed: Streamflow, copy: Path, undisturbed: Any, tmp_path: Path
) -> None:
    """A process of dbt's own program, which finds its profile by the link in the project's folder."""
    variables = {name: value for name, value in landed.environment.items() if name.startswith("POSTGRES_")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variables}
    command = [str(Path(sys.executable).with_name("dbt")), "build"]
    built = subprocess.run(
        command, cwd=copy / "dbt_project", env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built
    assert landed.state() == undisturbed


@pytest.mark.parametrize("selection", ["users_snapshots", "path:models/production"])
def test_no_way_round_the_gate(landed: Streamflow, selection: str) -> None:
    before = landed.state()
    landed.dbt("run", "--select", selection)
    landed.dbt("build", "--select", selection, "--full-refresh")
    assert landed.state() == before


def test_audits_and_models_are_one_run(landed: Streamflow) -> None:
    """An earlier run may have audited other rows: only a run that audits also builds."""
    before = landed.state()
    assert landed.dbt("test").success
    assert not landed.dbt("run").success
    assert landed.state() == before
    assert landed.dbt("build").success
    assert published(landed) == ["2024-01-31", "2024-02-29"]
    done = landed.state()
    assert landed.dbt("run").success, "nothing is new, so no audit is missing"
    assert landed.dbt("run", "--full-refresh").success
    assert landed.state() == done


def test_a_run_that_does_not_wait_for_audits_of_several_tables_does_not_open_the_gate(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    folder = copy_month(months, "001", tmp_path)
    set_value(folder / "labels.csv", 2, "user_id", "stranger")
    land_only(january, folder, 1)
    before = january.state()
    assert not january.dbt("build", "--use-fast-test-edges").success
    assert january.state() == before


@pytest.mark.long
def test_an_audit_that_becomes_stricter_after_it_warned_closes_the_gate(
    january: Streamflow, months: Path, copy: Path
) -> None:
    audit = copy / "dbt_project" / "tests" / "never.sql"
    audit.parent.mkdir(exist_ok=True)
    audit.write_text("{{ config(severity='warn') }} select 1 from {{ source('staging', 'labels') }} limit 1")
    land_only(january, months / "month_001", 1)
    before = january.state()
    assert run_copy(copy, january, "dbt", "build", "--select", "+gate").returncode == 0
    audit.write_text("select 1 from {{ source('staging', 'labels') }} limit 1")
    for arguments in (("build",), ("run", "--exclude", "gate"), ("run",)):
        run_copy(copy, january, "dbt", *arguments)
        assert january.state() == before


def test_failed_audit_skips_every_model(january: Streamflow, months: Path, tmp_path: Path) -> None:
    streamflow = january
    folder = copy_month(months, "001", tmp_path)
    set_value(folder / "labels.csv", 2, "user_id", "stranger")
    land_only(streamflow, folder, 1)
    before = streamflow.state()

    built = streamflow.dbt("build")
    assert not built.success
    assert {status for name, status in statuses(built).items() if not name.startswith("audit_")} == {"skipped"}
    assert statuses(streamflow.dbt("run"))["gate"] == "error"
    assert streamflow.state() == before


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("labels", "delete from staging.labels where user_id = (select max(user_id) from staging.labels)"),
        ("users", "insert into staging.users select 'somebody', signup_date from staging.users limit 1"),
    ],
    ids=["rows lost", "rows added"],
)
def test_staging_that_is_not_what_was_landed_is_not_published(landed: Streamflow, table: str, change: str) -> None:
    """The rows pass their audits. For a landing between audits and gate, see tests/test_concurrency.py."""
    landed.connection.execute(change.encode())
    before = landed.state()
    result = landed.dbt("build")
    assert {status for name, status in statuses(result).items() if name.startswith("audit_")} <= {"pass", "warn"}
    [gate] = [node for node in result.result.results if node.node.name == "gate"]
    assert gate.status == "error"
    lost_by_a_node = landed.on_citus and change.startswith("delete")
    said = "staging is empty" if lost_by_a_node else f"staging.{table} does not hold the rows that were landed"
    assert said in gate.message
    assert landed.state() == before


def test_a_month_whose_rows_the_server_lost_is_to_be_landed_again(landed: Streamflow, months: Path) -> None:
    """Staging is unlogged, so it is empty after a crash: a build that did nothing would look like a success."""
    before = landed.state()
    for table in TABLES:
        landed.connection.execute(sql.SQL("truncate staging.{}").format(sql.Identifier(table)))
    [gate] = [node for node in landed.dbt("build").result.results if node.node.name == "gate"]
    assert "staging is empty, as after a crash of the server or a landing that failed" in gate.message
    assert "Land the month again." in gate.message
    assert landed.state() == before
    assert f"which staging no longer holds: streamflow land 001 --data-dir {months}" in landed.ok("status").out
    landed.ok("land", "001", "--data-dir", months)
    assert landed.dbt("build").success
    assert published(landed) == ["2024-01-31", "2024-02-29"]


@pytest.mark.long
def test_a_month_that_fails_an_audit_after_it_passed_is_to_pass_again(landed: Streamflow, undisturbed: Any) -> None:
    before, right = landed.state(), landed.table("staging.usage_agg_30d")
    assert landed.dbt("build", "--select", "+gate").success
    landed.connection.execute("update staging.usage_agg_30d set watch_hours_30d = -1")
    assert not landed.dbt("build").success
    landed.dbt("run", "--exclude", "gate")
    assert landed.state() == before
    assert published(landed) == ["2024-01-31"]
    landed.connection.execute("truncate staging.usage_agg_30d")
    names = ", ".join(f"%({place})s" for place in range(len(right[0])))
    for row in right:
        values = {str(place): value for place, value in enumerate(row)}
        landed.connection.execute(f"insert into staging.usage_agg_30d values ({names})".encode(), values)
    assert landed.dbt("build").success
    assert landed.state() == undisturbed


@pytest.fixture
def bad(january: Streamflow, months: Path, tmp_path: Path) -> Streamflow:
    """January is published, a February with an unknown customer is landed."""
    folder = copy_month(months, "001", tmp_path)
    set_value(folder / "labels.csv", 2, "user_id", "stranger")
    land_only(january, folder, 1)
    return january


SEQUENCES: dict[str, list[tuple[str, ...]]] = {
    "no audits": [
        ("build", "--exclude-resource-type", "test"),
        ("build", "--select", "gate+"),
        ("run", "--full-refresh"),
    ],
    "audits of nothing, then models": [
        ("build", "--empty"),
        ("run", "--empty", "--select", "complete_months"),
        ("test", "--empty"),
        ("run",),
        ("run", "--select", "gate+"),
    ],
    "some audits, then models": [("test", "--select", "source:staging.users"), ("run",)],
    "all but one audit": [("build", "--exclude", "audit_labels_user_id_known_to_users"), ("run", "--exclude", "gate")],
    "build, then retry": [("build", "--write-json"), ("retry", "--write-json"), ("run",)],
    "run, then retry": [("run", "--write-json"), ("retry", "--write-json")],
    "below the gate only": [
        ("build", "--select", "users+"),
        ("build", "--select", "users_snapshots+", "labels_snapshots+"),
    ],
    "full refresh": [("build", "--full-refresh"), ("run", "--full-refresh", "--select", "complete_months+")],
    "a sample": [("run", "--sample", "1 day"), ("build", "--sample", "1 day")],
    "one thread, first failure": [("build", "--fail-fast", "--threads", "1"), ("run", "--exclude", "gate")],
}


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_no_sequence_gets_a_bad_month_past_the_gate(bad: Streamflow, sequence: list[tuple[str, ...]]) -> None:
    before = bad.state(), bad.latest()
    for arguments in sequence:
        result = bad.dbt(*arguments)
        assert arguments[0] != "retry" or (result.result and "gate" in statuses(result)), result.exception
        assert (bad.state(), bad.latest()) == before, arguments
        assert published(bad) == ["2024-01-31"], arguments
    assert bad.value("select count(*) from ops.history where as_of = '2024-02-29'") == 0


@pytest.mark.parametrize("command", ["ingest", pytest.param("check", marks=pytest.mark.long)])
def test_after_a_refusal_dbt_run_publishes_nothing_and_corrected_files_go_in(
    bad: Streamflow, command: str, months: Path, tmp_path: Path, undisturbed: Any
) -> None:
    """What is in staging is not to be published, so the gate asks for no audits, and lets nothing through."""
    before = bad.state()
    assert bad(command, "001", "--data-dir", tmp_path).code == 1
    for arguments in (("run",), ("run", "--full-refresh"), ("build", "--exclude-resource-type", "test")):
        bad.dbt(*arguments)
        assert bad.state() == before, arguments
        assert published(bad) == ["2024-01-31"], arguments
    bad.ok("ingest", "001", "--data-dir", months)
    assert bad.state() == undisturbed
    bad.ok("verify")


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("DBT_ENGINE_EXCLUDE_RESOURCE_TYPES", "test"),
        *(
            pytest.param(f"DBT_{name}", types, marks=pytest.mark.long)
            for name, types in (("EXCLUDE_RESOURCE_TYPES", "test"), ("RESOURCE_TYPES", "model"))
        ),
    ],
)
def test_no_variable_of_dbt_has_a_check_or_an_ingest_leave_out_audits(
    bad: Streamflow, tmp_path: Path, name: str, types: str
) -> None:
    bad.environment |= {name: types, "DBT_ENGINE_PROJECT_DIR": "/nowhere"}
    for command in ("check", "ingest"):
        refused = bad(command, "001", "--data-dir", tmp_path)
        assert refused.code == 1, refused
        assert "stranger" in refused.err


def test_no_deferral_gets_a_bad_month_past_the_gate(bad: Streamflow, tmp_path: Path) -> None:
    """The state is a manifest of the same project, so deferred references lead to the same tables."""
    before = bad.state()
    state = tmp_path / "state"
    state.mkdir()
    assert bad.dbt("parse", "--write-json").success
    (state / "manifest.json").write_bytes((Path(bad.environment["DBT_TARGET_PATH"]) / "manifest.json").read_bytes())
    for arguments in (
        ("run", "--defer", "--select", "users_snapshots", "users"),
        ("build", "--defer", "--favor-state"),
    ):
        bad.dbt(*arguments, "--state", str(state))
        assert bad.state() == before


@pytest.mark.long
def test_favoring_a_state_is_refused(landed: Streamflow, tmp_path: Path) -> None:
    """Production would read tables that were not audited."""
    before = landed.state()
    assert landed.dbt("parse", "--write-json").success
    (tmp_path / "manifest.json").write_bytes(
        (Path(landed.environment["DBT_TARGET_PATH"]) / "manifest.json").read_bytes()
    )
    refused = landed.dbt("build", "--defer", "--favor-state", "--state", str(tmp_path))
    assert not refused.success
    assert "without --favor-state" in str(refused.exception or refused.result.results[0].message)
    assert landed.state() == before
    assert landed.dbt("build").success
    assert "2024-02-29" in published(landed)
    landed.ok("verify")


def test_audits_of_nothing_leave_no_verdict(bad: Streamflow) -> None:
    assert bad.dbt("build", "--empty", "--select", "audit_*_unique").success
    assert bad.value("select count(*) from ops.audits where load_id = (select max(load_id) from ops.loads)") == 0
    bad.dbt("build")
    assert bad.value("select count(*) from ops.audits where load_id = (select max(load_id) from ops.loads)") == 54


def test_what_a_model_file_says_is_what_runs(landed: Streamflow) -> None:
    """`dbt compile` gives SQL with real dates, `dbt show` rows that are in the table."""
    assert landed.dbt("build").success
    compiled = landed.dbt("compile", "--select", "users_snapshots", "users").result.results
    text = {result.node.name: result.node.compiled_code for result in compiled}
    assert "date '2024-02-29'" in text["users_snapshots"]
    assert "date '2024-01-31'" in text["users_snapshots"]
    assert "as_of in (date '2024-02-29')" in text["users"]
    results = landed.dbt("show", "--select", "users", "--limit", "3").result.results
    [shown] = [result for result in results if result.node.name == "users"]
    rows = [tuple(row.values()) for row in shown.agate_table.rows]
    there = {user for (user,) in landed.rows("select user_id from users")}
    assert len(rows) == 3
    assert {row[0] for row in rows} <= there


def test_incremental_models_are_the_twelve_and_published(landed: Streamflow) -> None:
    listed = landed.dbt("ls", "--resource-type", "model", "--select", "config.materialized:incremental").result
    assert sorted(name.rsplit(".", 1)[-1] for name in listed) == sorted(
        [*TABLES, *(f"{name}_snapshots" for name in TABLES), "published"]
    )


def test_build_leaves_no_warning(landed: Streamflow) -> None:
    warnings = []

    from dbt.cli.main import dbtRunner

    with pytest.MonkeyPatch.context() as patch:
        for name, value in landed.environment.items():
            patch.setenv(name, value)
        runner = dbtRunner(
            callbacks=[lambda e: warnings.append(e.info.msg) if e.info.level in {"warn", "error"} else None]
        )
        project = Path(__file__).parent.parent / "dbt_project"
        arguments = [
            "build",
            "--no-partial-parse",
            "--project-dir",
            str(project),
            "--log-path",
            landed.environment["LOGS"],
        ]
        assert runner.invoke([*arguments, "--quiet"]).success
    assert warnings == []


def test_clone_is_refused(january: Streamflow, tmp_path: Path) -> None:
    before = january.state()
    assert january.dbt("parse", "--write-json").success
    state = tmp_path / "state"
    state.mkdir()
    (state / "manifest.json").write_bytes((Path(january.environment["DBT_TARGET_PATH"]) / "manifest.json").read_bytes())
    assert not january.dbt("clone", "--state", str(state), "--full-refresh").success
    assert january.state() == before


def test_another_target_schema_is_refused(landed: Streamflow, tmp_path: Path) -> None:
    profile = (Path(__file__).parent.parent / "profiles" / "profiles.yml").read_text()
    (tmp_path / "profiles.yml").write_text(profile.replace("schema: public", "schema: elsewhere"))
    before = landed.state()
    result = landed.dbt("build", "--profiles-dir", str(tmp_path))
    assert not result.success
    assert "POSTGRES_DB to a name like streamflow_elsewhere" in str(result.exception)
    assert landed.value("select count(*) from pg_tables where schemaname = 'elsewhere'") == 0
    assert landed.state() == before


@pytest.mark.long
def test_stored_failures_do_not_keep_the_gate_shut(landed: Streamflow) -> None:
    assert landed.dbt("build", "--store-failures").success


def test_full_refresh_of_a_landed_month_counts_it(landed: Streamflow) -> None:
    assert landed.dbt("build", "--full-refresh").success
    counts = "select sum(rows_inserted), sum(rows_updated) > 0 from ops.history where as_of = '2024-02-29'"
    [(inserted, updated)] = landed.rows(counts)
    new = landed.value(
        "select count(*) from users_snapshots as f where as_of = '2024-02-29' and not exists"
        " (select 1 from users_snapshots as j where j.as_of = '2024-01-31' and j.user_id = f.user_id)"
    )
    assert inserted == 6 * new > 0
    assert updated


def test_functions_of_another_version_are_replaced(january: Streamflow, months: Path) -> None:
    """Both the loader and dbt replace them, by the same text: the comment of ops.loads is its hash.

    They drop functions of 0.2.0 that had other arguments, and would otherwise stay beside the new ones.
    """
    stamp = "select obj_description('ops.loads'::regclass, 'pg_class')"
    body = "select md5(prosrc) from pg_proc where oid = 'ops.begin_step'::regproc"
    ours = january.value(stamp), january.value(body)
    assert ours[0] == hashlib.md5(ops_ddl(), usedforsecurity=False).hexdigest()
    another = (
        "create or replace function ops.begin_step(invocation text, target regclass default null) returns void"
        " language sql as 'select'; comment on table ops.loads is 'another';"
        "create function ops.require_months_before(text, date) returns void language sql as 'select';"
        "create function ops.build_history(regclass, regclass, text[], text[]) returns int language sql as 'select 1'"
    )
    for apply in (
        lambda: january.ok("land", "001", "--data-dir", months), lambda: january.dbt("build"),
        lambda: january.ok("init"), lambda: january("forget", "nobody", "--reason", "they asked"),
    ):  # fmt: skip
        january.connection.execute(another)
        said = january("verify")
        assert said.code == 3, "neither sound nor a forgery"
        assert "of another version of streamflow: `streamflow init`" in said.err
        apply()
        assert (january.value(stamp), january.value(body)) == ours
        january.ok("verify")
    assert published(january) == ["2024-01-31", "2024-02-29"]


@pytest.mark.parametrize(
    "what",
    [
        "ingest 001",
        *(pytest.param(what, marks=pytest.mark.long) for what in ("check 001", "ingest 000 from other files")),
    ],
)
def test_rows_that_are_lost_before_they_are_audited_say_nothing_of_the_files(
    january: Streamflow, months: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A node that fails and comes back at once loses its part of staging, and may end no session of the run."""
    command, month, *from_others = what.split()
    if from_others:  # the same rows, in files of other bytes
        edit(copy_month(months, month, tmp_path) / "labels.csv", lambda rows: rows.insert(1, rows.pop()))
    landed = losing_rows(monkeypatch, times=1)
    result = january.ok(command, month, "--data-dir", tmp_path if from_others else months)
    assert len(landed) == 2
    assert "beginning again in" in result.err
    assert published(january) == (["2024-01-31", "2024-02-29"] if what == "ingest 001" else ["2024-01-31"])


@pytest.mark.long
def test_rows_that_are_lost_each_time_end_the_run(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = january.state()
    losing_rows(monkeypatch, times=9)
    result = january("ingest", "001", "--data-dir", months)
    assert result.code == 3
    assert "staging.labels no longer held the rows that landed" in result.err
    assert january.state() == before
    assert {state for (state,) in january.rows("select state from ops.loads")} == {"published", "failed"}


def losing_rows(monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """Make staging lose rows after each of the first `times` landings. Each landing adds to the list returned."""
    landings: list[str] = []

    def losing(database: Database, delivery: Delivery, *arguments: Any) -> Any:
        landing = land(database, delivery, *arguments)
        landings.append(delivery.label)
        if len(landings) <= times:
            with database.connect() as node:
                node.execute("delete from staging.labels where user_id < (select max(user_id) from staging.labels)")
        return landing

    monkeypatch.setattr("loader.pipeline.run.land", losing)
    return landings


@pytest.mark.long
def test_a_publication_of_all_tables_is_no_obstacle(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    """Tools that copy a database create one; PostgreSQL then wants a key of each table that has rows deleted."""
    if streamflow.on_citus:
        pytest.skip("Citus does not distribute publications of all tables")
    streamflow.connection.execute("set client_min_messages = error; create publication everything for all tables")
    streamflow.ok("ingest", "000", "--data-dir", months)
    set_value(copy_month(months, "001", tmp_path) / "usage_agg_30d.csv", 3, "watch_hours_30d", "-1")
    refused = streamflow("ingest", "001", "--data-dir", tmp_path)
    assert (refused.code, "watch_hours_30d" in refused.err) == (1, True), refused
    streamflow.ok("ingest", "001", "--data-dir", months)
    assert streamflow("verify").code == 0
