"""A user's own models, tests, snapshots and exposures: built after each publish, which their failure does not undo."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from loader.pipeline.dbt import parse
from loader.project import VARIABLE
from tests.conftest import TABLES, Streamflow, run_copy
from tests.files import copy_month, edit, set_value, value_at
from tests.test_gate import published
from tests.test_unfinished import cut_off

VIEW = "select user_id, churn_label from {{ ref('labels') }} where churn_label"
HEADER = """{{ config(sql_header="set local timezone = 'Asia/Tokyo';") }}"""
TABLE = """{{ config(materialized='table', schema='ours') }}
select as_of, count(*) as customers from {{ ref('training_set') }} group by as_of"""
INCREMENTAL = """{{ config(materialized='incremental', unique_key='as_of') }}
select as_of, count(*) as customers from {{ ref('users_snapshots') }}
where true {% if is_incremental() %} and as_of > (select max(as_of) from {{ this }}) {% endif %}
group by as_of"""
SNAPSHOT = """{% snapshot contract_types %}
{{ config(target_schema='history', unique_key='user_id', strategy='check', check_cols=['contract_type']) }}
select user_id, contract_type from {{ ref('subscriptions') }}
{% endsnapshot %}"""
SCHEMA = """{% macro generate_schema_name(custom_schema_name, node) -%}
{{ target.schema }}{{ '_' ~ custom_schema_name if custom_schema_name }}
{%- endmacro %}"""
MACRO = "{{% macro {} %}}{{% endmacro %}}\n"
ALIAS = """{% macro generate_alias_name(custom_alias_name, node) -%}
{{ custom_alias_name or node.name }}_t
{%- endmacro %}"""
STORED = """{{ config(store_failures_as='view') }}
select * from {{ source('staging', 'labels') }} where false"""
EXPOSURE: dict[str, Any] = {
    "version": 2,
    "exposures": [
        {
            "name": "our_dashboard",
            "type": "dashboard",
            "depends_on": ["ref('churned')"],
            "owner": {"name": "us", "email": "us@example.com"},
        }
    ],
    "models": [{"name": "churned", "columns": [{"name": "user_id", "data_tests": ["unique", "not_null"]}]}],
}


def write(copy: Path, path: str, text: str) -> None:
    """Write a file of the project's copy."""
    target = copy / "dbt_project" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def change(copy: Path, path: str, to: Callable[[dict[str, Any]], object]) -> None:
    """Change what a YAML file of the project's copy says of labels."""
    target = copy / "dbt_project" / "models" / path
    document = yaml.safe_load(target.read_text())
    found = document["models"] if "models" in document else document["sources"][0]["tables"]
    to(next(one for one in found if one["name"] == "labels"))
    target.write_text(yaml.safe_dump(document, sort_keys=False))


def add_test(copy: Path, table_name: str, column_name: str, test: dict[str, Any]) -> None:
    """Declare a test on a column of staging."""
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(sources.read_text())
    table = next(table for table in document["sources"][0]["tables"] if table["name"] == table_name)
    column = next(column for column in table["columns"] if column["name"] == column_name)
    column.setdefault("data_tests", []).append(test)
    sources.write_text(yaml.safe_dump(document, sort_keys=False))


@pytest.fixture
def ours(copy: Path) -> Path:
    """The project with a user's own view, table, incremental model, snapshot, tests, exposure, analysis and hook."""
    write(copy, "models/ours/churned.sql", VIEW)
    write(copy, "models/customers_by_date.sql", TABLE)
    write(copy, "models/ours/deep/known_by_date.sql", INCREMENTAL)
    write(copy, "snapshots/contract_types.sql", SNAPSHOT)
    write(copy, "models/ours/_ours.yml", yaml.safe_dump(EXPOSURE))
    write(copy, "analyses/delivered.sql", "select * from {{ source('staging', 'labels') }}")
    with (copy / "dbt_project" / "dbt_project.yml").open("a") as settings:
        settings.write("on-run-end: \"select count(*) from {{ source('staging', 'labels') }}\"\n")
    write(copy, "tests/nobody_leaves_history.sql", "select 1 from {{ ref('labels_snapshots') }} where user_id is null")
    return copy


def test_everything_of_ones_own_is_built_month_after_month(ours: Path, streamflow: Streamflow, months: Path) -> None:
    dates = []
    for month, as_of in (("000", "2024-01-31"), ("001", "2024-02-29")):
        result = run_copy(ours, streamflow, "ingest", month, "--data-dir", str(months))
        assert result.returncode == 0, result.stderr
        dates.append(as_of)
        assert streamflow.rows("select as_of::text from ours.customers_by_date order by 1") == [(d,) for d in dates]
        assert streamflow.rows("select as_of::text from known_by_date order by 1") == [(d,) for d in dates]
        assert streamflow.value("select count(*) from churned") == streamflow.value(
            "select count(*) from labels where churn_label"
        )
        current = "select count(*) from history.contract_types where dbt_valid_to is null"
        assert streamflow.value(current) == streamflow.value("select count(*) from subscriptions")
    streamflow.ok("verify")


@pytest.mark.parametrize(
    ("point", "reads", "when"),
    [
        ("own model", "labels_snapshots", "select count(*) = 2 from ops.published"),
        ("own model and last merge", "labels_snapshots", "select count(*) = 12 from ops.history"),
        ("own model", "labels", "select count(*) = 2 from ops.published"),
    ],
)
@pytest.mark.long
def test_a_kill_leaves_nothing_of_ones_own_unbuilt(
    copy: Path, january: Streamflow, months: Path, point: str, reads: str, when: str
) -> None:
    """The month also gets its verdicts, as staging still holds its rows."""
    own = "{{ config(materialized='table') }} select count(*) as n from {{ ref('%s') }}, held"
    write(copy, "models/own.sql", own % reads)
    january.connection.execute("create table held as select 1 as one")
    names = {"DBT_TARGET_PATH", "DBT_PROFILES_DIR"}
    kept = {name: value for name, value in january.environment.items() if name not in names}
    killed = Streamflow({**kept, VARIABLE: str(copy)}, january.connection)
    cut_off(killed, point, "001", "--data-dir", months, when=when)
    status, is_published = january.ok("status").out, len(published(january)) == 2
    assert (" not recorded" in status) == is_published
    assert ("unfinished: 001, whose last attempt was cut off" in status) == is_published, "its own models are not built"
    cut_off(killed, point, "001", "--data-dir", months, when=when)
    assert january.value("select to_regclass('own') is null")
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    assert january.value("select n from own") == january.value(f"select count(*) from {reads}")
    assert january.ok("status", "--json").json[1]["audits_passed"] > 50
    assert "nothing to do" in run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).stdout
    january.ok("verify")


@pytest.mark.long
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("select timestamptz '2024-01-31 00:00+09' as since -- at its end", id="comment"),
        pytest.param(HEADER + "select timestamptz '2024-01-31 00:00' as since", id="header"),
    ],
)
def test_a_view_means_the_same_when_it_is_built_again(copy: Path, january: Streamflow, months: Path, text: str) -> None:
    write(copy, "models/own.sql", text)
    for month in ("001", "002"):
        result = run_copy(copy, january, "ingest", month, "--data-dir", str(months))
        assert result.returncode == 0, result.stderr
        assert january.value("select since = '2024-01-31 00:00+09' from own")


METRICS = """
models:
  - {name: days, time_spine: {standard_granularity_column: day}, columns: [{name: day, granularity: day}]}
semantic_models:
  - name: customers
    model: ref('latest_users')
    defaults: {agg_time_dimension: signup_date}
    entities: [{name: customer, type: primary, expr: user_id}]
    dimensions: [{name: signup_date, type: time, type_params: {time_granularity: day}}]
    measures: [{name: customers, agg: count, expr: user_id, create_metric: true}]
saved_queries: [{name: all_customers, query_params: {metrics: [customers]}}]
"""
DAYS = "select day::date as day from generate_series(date '2024-01-01', '2024-12-31', '1 day') as day"
IN_THE_WAY = (
    (
        "models/stg_labels.sql",
        "select * from {{ source('staging', 'labels') }}",
        "have it read ref('latest_labels')",
    ),
    ("macros/schema.sql", SCHEMA, " would be public_public."),
    ("macros/alias.sql", ALIAS, "_t, where streamflow does not look. Take alias, schema"),
    ("tests/ours.sql", STORED, "ours is a view on staging.labels, which every month recreates: have it store"),
    (
        "models/above.sql",
        "select * from {{ ref('between') }}",
        "above is a view on staging.labels, which every month recreates: have it read ref('latest_labels')",
    ),
)
BETWEEN = "{{ config(materialized='ephemeral') }} select user_id from {{ source('staging', 'labels') }}"


@pytest.mark.long
@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, len(IN_THE_WAY)))])
def test_what_would_be_in_the_way_of_each_month_is_named(
    copy: Path, january: Streamflow, months: Path, number: int
) -> None:
    before, (path, text, said) = january.state(), IN_THE_WAY[number]
    write(copy, "models/between.sql", BETWEEN)
    write(copy, path, text)
    result = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert result.returncode == 3
    assert said in result.stderr
    assert january.state() == before
    (copy / "dbt_project" / path).unlink()
    assert january.value("select count(*) from pg_tables where schemaname ~ '^public_' or tablename ~ '_t$'") == 0
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("setting", ["materialized: table", "full_refresh: true", "unlogged: true"])
def test_what_a_project_says_of_all_its_models_does_not_reach_the_ledger(
    copy: Path, january: Streamflow, setting: str
) -> None:
    before, settings = january.table("ops.published"), copy / "dbt_project" / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("models:\n", f"models:\n  +{setting}\n"))
    result = run_copy(copy, january, "dbt", "build", "--select", "published")
    assert result.returncode == 2
    assert f"of streamflow would be configured with {setting}" in result.stdout.replace("True", "true")
    assert january.table("ops.published") == before


def test_a_target_of_another_database_is_refused(copy: Path, january: Streamflow, months: Path) -> None:
    profiles = copy / "profiles" / "profiles.yml"
    profile = yaml.safe_load(profiles.read_text())
    outputs = profile["streamflow"]["outputs"]
    outputs["prod"] = {**outputs["server"], "dbname": "postgres"}
    profiles.write_text(yaml.safe_dump(profile))
    january.environment["DBT_TARGET"] = "prod"
    for command in ("check", "ingest"):
        refused = run_copy(copy, january, command, "001", "--data-dir", str(months))
        assert refused.returncode == 3, refused
        assert "the target prod of dbt's profile is the database postgres on " in refused.stderr
    assert published(january) == ["2024-01-31"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("hook", "is_known"), [("select 1/0", True), ("\"{{ run_query('select 1/0') if execute }}\"", False)]
)
def test_a_failing_hook_of_ones_own_changes_no_verdict(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path, hook: str, is_known: bool
) -> None:
    """dbt runs the project's hook first; as it fails, the package's hook that enters the verdicts does not run.

    What else failed is only known if dbt gives its results: until this month is ingested again, another run does not
    count as its repair.
    """
    bad = copy_month(months, "001", tmp_path)
    set_value(bad / "usage_agg_30d.csv", 2, "watch_hours_30d", "-4.5")
    never = "{{ config(materialized='table') }} select 1 / count(*) as x from {{ ref('labels') }}"
    write(copy, "models/never.sql", f"{never} where false")
    write(copy, "models/off.sql", "{{ config(enabled=false) }} select 1 as a")
    apart = "{{ config(materialized='table') }} select 1 / count(*) as x from {{ source('ops', 'loads') }}"
    write(copy, "models/apart.sql", f"{apart} where false")
    settings = copy / "dbt_project" / "dbt_project.yml"
    said = settings.read_text()
    settings.write_text(f"{said}on-run-end: {hook}\n")
    for command in ("check", "ingest"):
        refused = run_copy(copy, january, command, "001", "--data-dir", str(tmp_path))
        assert refused.returncode == 1, refused
        assert "not between 0 and 744" in refused.stderr
        assert [month["state"] for month in january.ok("status", "--json").json] == ["published", "refused"]
    assert run_copy(copy, january, "check", "001", "--data-dir", str(months)).returncode == 0
    for _ in range(2):
        result = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
        assert result.returncode == 5, result
        assert "division by zero" in result.stderr
        assert published(january) == ["2024-01-31", "2024-02-29"]
        assert january.value("select bool_and(load_id in (select load_id from ops.audits)) from ops.published")
    settings.write_text(said)
    assert run_copy(copy, january, "check", "002", "--data-dir", str(months)).returncode == 0
    assert "failed: " in january.ok("status").out
    write(copy, "models/never.sql", never)
    write(copy, "models/apart.sql", apart)
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    assert "failed: " not in january.ok("status").out
    assert january.value("select x from never") == 0
    assert january.value("select to_regclass('apart') is not null") is is_known
    january.ok("verify")


@pytest.mark.long
def test_a_hook_of_a_package_that_fails_after_the_verdicts_were_entered(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """dbt then gives no results, so what was wrong is found by auditing again."""
    package = copy / "dbt_project" / "dbt_packages" / "zz"
    package.mkdir()
    hook = "\"{{ run_query('select 1/0') if execute }}\""
    (package / "dbt_project.yml").write_text(f"name: zz\nconfig-version: 2\non-run-end: {hook}\n")
    bad = copy_month(months, "001", tmp_path)
    set_value(bad / "usage_agg_30d.csv", 2, "watch_hours_30d", "-4.5")
    refused = run_copy(copy, january, "ingest", "001", "--data-dir", str(tmp_path))
    assert (refused.returncode, "not between 0 and 744" in refused.stderr) == (1, True), refused
    published = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert (published.returncode, "division by zero" in published.stderr) == (5, True), published


@pytest.mark.long
def test_a_check_with_a_semantic_layer_of_ones_own_leaves_whole_artifacts(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    """dbt cannot copy a saved query without filters. Tools compare manifest.json with an earlier or a later one."""
    write(copy, "models/days.sql", DAYS)
    write(copy, "models/_metrics.yml", METRICS)
    streamflow.environment["DBT_WRITE_JSON"] = "true"
    checked = run_copy(copy, streamflow, "check", "000", "--data-dir", str(months))
    assert checked.returncode == 0, checked
    target = copy / "dbt_project" / "target"
    manifest, results = (json.loads((target / f"{name}.json").read_text()) for name in ("manifest", "run_results"))
    assert manifest["saved_queries"].keys() == {"saved_query.customers.all_customers"}
    assert manifest["unit_tests"]
    tests = {name for name in manifest["nodes"] if name.startswith("test.")}
    assert tests > {result["unique_id"] for result in results["results"]} & tests > set()
    assert manifest["metadata"]["invocation_id"] == results["metadata"]["invocation_id"]


@pytest.mark.long
def test_a_contract_of_ones_own_is_held_as_dbt_holds_it(copy: Path, january: Streamflow) -> None:
    """Each column needs a type, and an unquoted name matches in any case."""
    write(copy, "models/ours.sql", "select 1 as UserId, 1.5::numeric as fee")
    ours = {
        "name": "ours",
        "config": {"contract": {"enforced": True}},
        "columns": [{"name": "UserId"}, {"name": "fee"}],
    }
    write(copy, "models/_ours.yml", yaml.safe_dump({"models": [ours]}))
    untyped = run_copy(copy, january, "dbt", "run", "--select", "ours")
    assert untyped.returncode == 1
    assert "Contracted models require data_type to be defined for each column" in untyped.stdout
    ours["columns"] = [{"name": "UserId", "data_type": "int"}, {"name": "fee", "data_type": "numeric"}]
    write(copy, "models/_ours.yml", yaml.safe_dump({"models": [ours]}))
    typed = run_copy(copy, january, "dbt", "run", "--select", "ours")
    assert typed.returncode == 0, typed.stdout


def test_a_failed_model_is_named_and_built_again_alone(ours: Path, streamflow: Streamflow, months: Path) -> None:
    """The fail_fast flag and the default selector of the project change nothing about that."""
    settings = ours / "dbt_project" / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("flags:\n", "flags:\n  fail_fast: true\n"))
    write(
        ours, "selectors.yml", yaml.safe_dump({"selectors": [{"name": "few", "default": True, "definition": "users"}]})
    )
    write(ours, "models/ours/below.sql", "{{ config(materialized='table') }} select * from {{ ref('broken') }}")
    shown = {**EXPOSURE["exposures"][0], "name": "of_below", "depends_on": ["ref('below')"]}
    write(ours, "models/ours/_below.yml", yaml.safe_dump({"version": 2, "exposures": [shown]}))
    write(
        ours,
        "models/ours/broken.sql",
        "{{ config(materialized='table') }} select 1 / (count(*) - count(*)) as x from {{ ref('users') }}",
    )
    heard = ours.parent / "heard"
    streamflow.environment["STREAMFLOW_NOTIFY"] = f"tee {shlex.quote(str(heard))}"
    first = run_copy(ours, streamflow, "ingest", "000", "--data-dir", str(months))
    assert first.returncode == 5
    assert "month 000 published" in first.stdout
    word = json.loads(heard.read_text())
    assert (word["event"], word["exit_code"]) == ("published", 5)
    assert word["models_failed"] == ["model broken", "model below"]
    assert "model broken" in first.stderr
    assert "division by zero" in first.stderr
    assert "skipped, as they are built on these: 1" in first.stderr
    assert published(streamflow) == ["2024-01-31"]

    again = run_copy(ours, streamflow, "ingest", "000", "--data-dir", str(months))
    assert again.returncode == 5, "as long as it fails"
    assert "2 dbt nodes" in again.stderr

    following = run_copy(ours, streamflow, "ingest", "001", "--data-dir", str(months))
    assert following.returncode == 5
    assert published(streamflow) == ["2024-01-31", "2024-02-29"]

    write(
        ours,
        "models/ours/broken.sql",
        "{{ config(materialized='table') }} select count(*) as x from {{ ref('users') }}",
    )
    mended = run_copy(ours, streamflow, "ingest", "001", "--data-dir", str(months))
    assert mended.returncode == 0
    assert "2 dbt nodes" in mended.stderr
    assert streamflow.value("select x from below") == streamflow.value("select count(*) from users")
    nothing = run_copy(ours, streamflow, "ingest", "001", "--data-dir", str(months))
    assert "nothing to do" in nothing.stdout


@pytest.mark.long
def test_a_mended_model_below_which_another_failed(copy: Path, streamflow: Streamflow, months: Path) -> None:
    """The view was built, and what reads it failed: the same command builds both once the view is mended."""
    write(
        copy, "models/ours/divided.sql", "select 1 / (length(user_id) - length(user_id)) as x from {{ ref('users') }}"
    )
    write(copy, "models/ours/read.sql", "{{ config(materialized='table') }} select * from {{ ref('divided') }}")
    assert run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months)).returncode == 5
    write(copy, "models/ours/divided.sql", "select length(user_id) as x from {{ ref('users') }}")
    mended = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert mended.returncode == 0, mended.stderr
    assert "what had failed was built" in mended.stdout


@pytest.mark.long
def test_what_a_finished_month_has_built_is_not_named_as_skipped(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    write(copy, "tests/never.sql", "select 1 from {{ ref('users') }}")
    write(copy, "models/ours/newest.sql", "{{ config(materialized='table') }} select * from {{ ref('latest_users') }}")
    assert run_copy(copy, streamflow, "land", "000", "--data-dir", str(months)).returncode == 0
    assert run_copy(copy, streamflow, "dbt", "build").returncode == 1
    finished = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert finished.returncode == 5
    assert "test never" in finished.stderr
    assert "newest" not in finished.stderr
    assert streamflow.value("select count(*) from newest") == streamflow.value("select count(*) from users")
    assert "failed: never" in streamflow.ok("status").out


ELSEWHERE = [pytest.param(name, marks=pytest.mark.long) for name in ("users", "published_months")]


@pytest.mark.parametrize("tested", ["users_snapshots", *ELSEWHERE])
@pytest.mark.long
def test_a_failed_test_of_ones_own_does_not_hold_a_month_back(
    copy: Path, streamflow: Streamflow, months: Path, tested: str
) -> None:
    write(copy, "tests/never.sql", f"select 1 from {{{{ ref('{tested}') }}}}")
    for month in ("000", "001"):
        result = run_copy(copy, streamflow, "ingest", month, "--data-dir", str(months))
        assert result.returncode == 5, result.stderr
        assert "test never" in result.stderr
        assert f"month {month} published" in result.stdout
    assert published(streamflow) == ["2024-01-31", "2024-02-29"]
    assert streamflow("verify").code == 0
    write(copy, "tests/never.sql", f"select 1 from {{{{ ref('{tested}') }}}} where false")
    assert streamflow.ok("status").out.count("failed: never, ") == 2
    assert run_copy(copy, streamflow, "dbt", "test", "--select", "never").returncode == 0
    assert "never" not in streamflow.ok("status").out
    assert run_copy(copy, streamflow, "ingest", "001", "--data-dir", str(months)).returncode == 0


@pytest.mark.long
def test_a_failed_test_of_ones_own_holds_dbt_by_hand_back_until_the_month_is_finished(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    """dbt skips what is below a failed test. The command of docs/troubleshooting.md runs no test."""
    write(copy, "tests/never.sql", "select 1 from {{ ref('users') }}")
    assert run_copy(copy, streamflow, "land", "000", "--data-dir", str(months)).returncode == 0
    for _ in range(2):
        assert run_copy(copy, streamflow, "dbt", "build").returncode == 1
        assert published(streamflow) == []
    assert run_copy(copy, streamflow, "dbt", "run", "--select", "complete_months+").returncode == 0
    assert published(streamflow) == ["2024-01-31"]
    assert streamflow("verify").code == 0


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        ("generic", "error"),
        pytest.param("generic", "warn", marks=pytest.mark.long),
        pytest.param("singular", "warn", marks=pytest.mark.long),
        pytest.param("singular", "error", marks=pytest.mark.long),
    ],
)
def test_a_test_of_ones_own_on_staging_is_an_audit(
    copy: Path, streamflow: Streamflow, months: Path, kind: str, severity: str
) -> None:
    if kind == "singular":
        config = f"{{{{ config(severity='{severity}') }}}}\n"
        write(copy, "tests/ours.sql", config + "select * from {{ source('staging', 'labels') }} where churn_label")
    else:
        write(copy, "tests/generic/is_false.sql", (
            "{% test is_false(model, column_name) %}\n"
            "select * from {{ model }} where {{ column_name }}\n{% endtest %}\n"
        ))  # fmt: skip
        add_test(copy, "labels", "churn_label", {"is_false": {"name": "ours", "config": {"severity": severity}}})
    result = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    lines = (months / "month_000" / "labels.csv").read_text().splitlines()
    header = lines[0].split(",").index("churn_label")
    guilty = [
        number for number, line in enumerate(lines[1:], 2) if line.split(",")[header].lower() in {"true", "t", "1"}
    ]
    assert guilty
    assert result.returncode == (1 if severity == "error" else 0), result.stderr
    said = result.stderr if severity == "error" else result.stdout
    assert f"labels.csv:{guilty[0]} " in said
    assert f"[ours] (and {len(guilty) - 1} more like it)" in said
    assert published(streamflow) == ([] if severity == "error" else ["2024-01-31"])


@pytest.mark.long
def test_an_audit_may_read_a_seed(copy: Path, streamflow: Streamflow, months: Path) -> None:
    """The seed is built before the audits, in `check` too; `ingest` demands that audited_besides names the seed."""
    write(copy, "seeds/contracts.csv", "contract\nMonth-to-month\nTwo year\n")
    add_test(copy, "subscriptions", "contract_type", {
        "relationships": {"name": "ours", "arguments": {"to": "ref('contracts')", "field": "contract"}}
    })  # fmt: skip
    checked = run_copy(copy, streamflow, "check", "000", "--data-dir", str(months))
    assert checked.returncode == 1, checked.stderr
    assert "[ours] (and " in checked.stderr
    assert "no such contract in contracts" in checked.stderr, checked.stderr
    write(copy, "seeds/contracts.csv", "contract\nMonth-to-month\nOne year\nTwo year\n")
    result = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert result.returncode == 3
    assert "`vars: {audited_besides: [contracts]}`" in result.stderr


@pytest.mark.long
def test_a_seed_that_cannot_be_made_is_named_and_the_month_goes_in_once_it_can(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    """A seed that fails, one that refuses the month, and one whose columns have changed since it was made."""
    seed, good = "seeds/contracts.csv", "Month-to-month\nOne year\nTwo year\n"
    add_test(copy, "subscriptions", "contract_type", {
        "relationships": {"name": "ours", "arguments": {"to": "ref('contracts')", "field": "contract"}}
    })  # fmt: skip
    with (copy / "dbt_project" / "dbt_project.yml").open("a") as settings:
        settings.write("vars: {audited_besides: [contracts]}\nseeds: {+column_types: {since: date}}\n")

    def ends(code: int, text: str, *commands: str, month: str = "000") -> str:
        write(copy, seed, text)
        for command in commands:
            done = run_copy(copy, streamflow, command, month, "--data-dir", str(months))
            assert done.returncode == code, done
        return done.stderr

    assert "seed contracts: " in ends(3, "contract,since\nOne year,never\n", "check", "ingest")
    assert published(streamflow) == []
    assert "no such contract in contracts" in ends(1, "contract,since\nTwo year,2024-01-01\n", "check", "ingest")
    assert published(streamflow) == []
    ends(0, "contract,since\n" + good.replace("\n", ",2024-01-01\n"), "check", "ingest")
    assert "seed contracts: " in ends(
        3, "contract,until\n" + good.replace("\n", ",x\n"), "check", "ingest", month="001"
    )
    assert published(streamflow) == ["2024-01-31"]
    assert run_copy(copy, streamflow, "dbt", "seed", "--full-refresh").returncode == 0
    assert run_copy(copy, streamflow, "ingest", "001", "--data-dir", str(months)).returncode == 0
    assert published(streamflow) == ["2024-01-31", "2024-02-29"]
    streamflow.ok("verify")


@pytest.mark.long
def test_an_audit_that_calls_a_function_of_the_database_keeps_the_gate_shut(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    write(copy, "functions/is_known.sql", "select label is not null")
    described = {"name": "is_known", "arguments": [{"name": "label", "data_type": "boolean"}]}
    write(copy, "functions/_f.yml", yaml.safe_dump({"functions": [described | {"returns": {"data_type": "boolean"}}]}))
    audit = "select 1 from {{ source('staging', 'labels') }} where not {{ function('is_known') }}(churn_label)"
    write(copy, "tests/ours.sql", audit)
    result = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert result.returncode == 3, result
    assert "audit ours calls function.customers.is_known" in result.stderr
    assert published(streamflow) == []


def test_a_check_runs_all_audits_and_no_other_test(copy: Path, streamflow: Streamflow, months: Path) -> None:
    """A test that also reads a model is no audit, as that is of another month, or not there yet.

    An audit may have any name: one with dbt's operators, or that of a model.
    """
    write(copy, "models/scores.sql", "{{ config(materialized='table') }} select user_id from {{ ref('users') }}")
    audit = "select 1 from {{ source('staging', 'labels') }} inner join {{ ref('scores') }} using (user_id) limit 0"
    write(copy, "tests/scored.sql", audit)
    for name in ("labels,known", "labels:known", "labels"):
        add_test(copy, "labels", "user_id", {"not_null": {"name": name}})
    checked = run_copy(copy, streamflow, "check", "000", "--data-dir", str(months))
    assert checked.returncode == 0, checked
    assert "audits: 57 passed" in checked.stdout


def test_names_and_settings_of_ones_own_are_not_taken_for_those_of_streamflow(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    """Models called like streamflow's, a source called staging, and settings for all tests."""
    rates = {"name": "exchange_rates", "columns": [{"name": "rate", "data_tests": ["not_null"]}]}
    write(
        copy,
        "models/ours/_ours.yml",
        yaml.safe_dump({"sources": [{"name": "staging", "schema": "raw", "tables": [rates]}]}),
    )
    write(
        copy,
        "models/ours/rates.sql",
        "{{ config(materialized='view') }} select * from {{ source('staging', 'exchange_rates') }}",
    )
    for name in ("gate", "complete_months"):
        write(copy, f"models/ours/{name}.sql", "{{ config(alias='our_' ~ model.name) }} select 1 as one")
    settings = copy / "dbt_project" / "dbt_project.yml"
    for setting in ("where: 'true'", "severity: warn"):
        settings.write_text(settings.read_text() + f"data_tests: {{+{setting}}}\n")
    streamflow.connection.execute("create schema raw")
    streamflow.connection.execute("create table raw.exchange_rates (rate numeric)")
    refused = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert refused.returncode == 3
    assert "no test of staging has severity error" in refused.stderr
    settings.write_text(settings.read_text().replace("data_tests: {+severity: warn}\n", ""))
    done = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert done.returncode == 0, done.stderr
    assert "audits: 54 passed" in done.stdout
    assert streamflow.value("select count(*) from latest.users") == streamflow.value("select count(*) from users") > 0


@pytest.mark.long
def test_an_audit_for_which_the_gate_would_not_wait_keeps_it_shut(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    """dbt runs the gate after a test only where the gate depends on all that the test reads."""
    audit = "select 1 from {{ source('staging', 'labels') }}, {{ source('ops', 'restatements') }} limit 0"
    write(copy, "tests/our's.sql", audit)
    result = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert result.returncode == 3
    assert "`vars: {audited_besides: [[ops, restatements]]}`" in result.stderr
    with (copy / "dbt_project" / "dbt_project.yml").open("a") as settings:
        settings.write("vars: {audited_besides: [[ops, restatements]]}\n")
    assert run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months)).returncode == 0
    write(copy, "tests/our's.sql", audit.replace(" limit 0", " right join (select 1) as one on true"))
    assert run_copy(copy, streamflow, "ingest", "001", "--data-dir", str(months)).returncode == 1
    assert published(streamflow) == ["2024-01-31"]


@pytest.mark.parametrize(
    ("line", "put"),
    [
        ("      +full_refresh: false\n", ""),
        *(
            pytest.param(*edit, marks=pytest.mark.long)
            for edit in (
                ("{enforced: true}", "{enforced: false}"),
                ("      +materialized: incremental\n", "      +materialized: table\n"),
                ("      +materialized: incremental\n", ""),
                ("      +incremental_strategy: newest_wins\n", "      +incremental_strategy: merge\n"),
            )
        ),
    ],
)  # fmt: skip
def test_nothing_is_built_without_the_guards_that_a_project_configures(
    copy: Path, january: Streamflow, months: Path, line: str, put: str
) -> None:
    before, path = january.state(), copy / "dbt_project" / "dbt_project.yml"
    assert line in path.read_text()
    path.write_text(path.read_text().replace(line, put))
    result = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert result.returncode == 3
    assert "lacks a setting that guards history and production" in result.stderr
    assert january.state() == before


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("models/history/labels_snapshots.sql", "{{ config(materialized='table') }}", "lacks a setting that guards"),
        ("models/staging/_sources.yml", "MOVED", ", where a month lands, would be read from raw."),
        *(
            pytest.param(path, text, said, marks=pytest.mark.long)
            for path, text, said in (
                (
                    "models/production/ours.sql",
                    "select 1 as a",
                    "ours would be built like a declared table, but is not",
                ),
                ("macros/ours.sql", MACRO.format("default__can_clone_table()"), "would call that of customers"),
                (
                    "macros/ours.sql",
                    MACRO.format("postgres__get_test_sql(a, b, c, d, e)"),
                    "postgres__get_test_sql of",
                ),
                ("models/production/labels.yml", "REFERS", "has a foreign key without `to`, the ref()"),
                ("models/production/labels.yml", "MIXED", "labels.Segment needs `quote: true`"),
            )
        ),
    ],
)
def test_what_would_lose_or_miss_rows_is_refused_before_anything_is_built(
    copy: Path, january: Streamflow, path: str, text: str, said: str
) -> None:
    before, file = january.state(), copy / "dbt_project" / path
    if text == "MOVED":
        file.write_text(file.read_text().replace("    schema: staging\n", "    schema: raw\n"))
    elif text in {"REFERS", "MIXED"}:
        key = {"type": "foreign_key", "columns": ["user_id"], "expression": "public.countries (code)"}
        column = {"name": "Segment", "data_type": "text"}
        change(
            copy,
            "production/labels.yml",
            lambda model: model["constraints"].append(key) if text == "REFERS" else model["columns"].append(column),
        )
    else:
        write(copy, path, text + (file.read_text() if file.exists() else ""))
    result = run_copy(copy, january, "dbt", "run", "--select", "labels_snapshots", "labels")
    assert result.returncode == 2, result
    assert said in " ".join(result.stdout.split())
    assert january.state() == before


SIZE = "      - name: size\n        data_type: int\n"
RETIRED = """\
          - name: size
            data_type: int
            config: {meta: {retired: true}}
"""
OUR_DATES = "date '2024-01-31', date '2024-02-29'"


@pytest.mark.parametrize(
    ("path", "line", "put"),
    [
        pytest.param("history/labels_snapshots.sql", "{{ earlier }}", OUR_DATES, id="history"),
        pytest.param(
            "production/labels.sql",
            "{{ streamflow.newly_delivered('labels') }}",
            f"as_of in ({OUR_DATES}) and observed_as_of = as_of",
            id="production",
        ),
    ],
)
@pytest.mark.long
def test_dates_that_a_models_author_wrote_are_not_taken_for_those_of_months_that_changed(
    copy: Path, january: Streamflow, months: Path, path: str, line: str, put: str
) -> None:
    model = copy / "dbt_project" / "models" / path
    assert line in model.read_text()
    model.write_text(model.read_text().replace(line, put))
    result = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert result.returncode == 0, result.stderr
    january.ok("verify")


@pytest.mark.long
def test_a_constraint_or_an_index_that_would_never_be_made_is_refused(copy: Path, january: Streamflow) -> None:
    """dbt makes them when it creates a table, and production is created once."""
    path = copy / "dbt_project" / "models" / "production" / "labels.yml"
    document = yaml.safe_load(path.read_text())
    [model] = document["models"]
    model["config"]["indexes"] = [{"columns": ["churn_label"]}]
    model["columns"][1]["constraints"] = [{"type": "unique"}, {"type": "not_null"}]
    path.write_text(yaml.safe_dump(document))
    refused = run_copy(copy, january, "dbt", "build")
    assert refused.returncode == 2, refused
    assert "labels declares: index, churn_label unique, churn_label not_null. dbt creates" in refused.stdout


@pytest.mark.long
def test_rows_that_name_nobody_do_not_make_a_month_that_can_neither_go_on_nor_be_given_up(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """If the audit of a reference only warns, production's foreign key would refuse rows that history has already.

    An audit of the same column against another list, here a seed, is no audit of that key.
    """
    before = january.state()
    folder = copy_month(months, "001", tmp_path)
    with (folder / "labels.csv").open(newline="") as stream:
        named = [row["user_id"] for row in csv.DictReader(stream)]
    write(copy, "seeds/people.csv", "\n".join(["user_id", "nobody", *named]) + "\n")
    in_a_list = {"relationships": {"name": "ours", "arguments": {"to": "ref('people')", "field": "user_id"}}}
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    declared = sources.read_text()
    with (copy / "dbt_project" / "dbt_project.yml").open("a") as settings:
        settings.write("vars: {audited_besides: [people]}\n")
    set_value(folder / "labels.csv", 3, "user_id", "nobody")
    for config in ("severity: warn", "error_if: '>2'"):
        labels_may_name_nobody(copy, config)
        add_test(copy, "labels", "user_id", in_a_list)
        result = run_copy(copy, january, "ingest", "001", "--data-dir", str(tmp_path))
        assert result.returncode == 1
        assert "rows of labels that match no row of users by user_id: 1" in result.stderr
        assert january.state() == before
        sources.write_text(declared)
    january.connection.execute("alter table labels drop constraint labels_user_id_fkey")
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    assert published(january) == ["2024-01-31", "2024-02-29"]
    january.ok("verify")
    assert january.value("select count(*) from pg_constraint where conname = 'labels_user_id_fkey'") == 1


RELATIONSHIPS = """{% test relationships(model, column_name, to, field) %}
select 1 from {{ model }} where upper({{ column_name }}) not in (select upper({{ field }}) from {{ to }})
{% endtest %}"""
NARROWER = """{% macro get_where_subquery(relation) %}
{% if relation.identifier != 'labels' %}{{ return(relation) }}{% endif %}
(select * from {{ relation }} where user_id <> lower(user_id)) as narrower
{% endmacro %}"""
DISPATCHED = RELATIONSHIPS.replace("test relationships", "macro default__test_relationships").replace(
    "endtest", "endmacro"
)


@pytest.mark.parametrize(
    "text", [RELATIONSHIPS, *(pytest.param(text, marks=pytest.mark.long) for text in (DISPATCHED, NARROWER))]
)
def test_a_test_of_references_of_ones_own_lets_no_row_break_a_key(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path, text: str
) -> None:
    """Projects may override dbt's tests. Production's foreign key would refuse the row after history was built."""
    before, file = january.state(), copy_month(months, "001", tmp_path) / "labels.csv"
    write(copy, "macros/ours.sql", text)
    set_value(file, 2, "user_id", value_at(file, 2, "user_id").lower())
    for command in ("check", "ingest"):
        refused = run_copy(copy, january, command, "001", "--data-dir", str(tmp_path))
        assert refused.returncode == 1, refused
        assert "rows of labels that match no row of users by user_id: 1" in refused.stderr
    assert january.state() == before
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0


def test_a_foreign_key_of_somebodys_own_refuses_rows_before_the_month_begins(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """Its merge would fail once the history of all tables stands. Here it refers to a table that no file delivers."""
    if january.on_citus:
        pytest.skip("a distributed table cannot refer to a table of the coordinator's own")
    with (months / "month_001" / "users.csv").open(newline="") as stream:
        named = {row["user_id"] for row in csv.DictReader(stream)} | {
            user for (user,) in january.rows("select user_id from users")
        }
    january.connection.execute("create table known (user_id text primary key)")
    january.connection.execute("insert into known select unnest(%s::text [])", [sorted(named)[1:]])
    january.connection.execute("delete from labels where user_id = %s", [sorted(named)[0]])
    january.connection.execute("alter table labels add constraint of_ours foreign key (user_id) references known")
    before = january.state()
    for command in ("check", "ingest"):
        refused = january(command, "001", "--data-dir", months)
        assert refused.code == 1
        assert "rows of labels that match no row of known by user_id: 1" in refused.err
        assert "`alter table labels drop constraint of_ours` in psql" in refused.err
    assert january.state() == before
    january.connection.execute("insert into known values (%s)", [sorted(named)[0]])
    january.ok("check", "001", "--data-dir", months)


@pytest.mark.long
def test_a_second_foreign_key_is_made_and_a_waived_audit_of_it_lets_no_row_past(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """labels refers to users by the same column; that foreign key does not replace the one to subscriptions."""
    before = january.state()
    key = {"type": "foreign_key", "columns": ["user_id"], "to": "ref('subscriptions')", "to_columns": ["user_id"]}
    change(copy, "production/labels.yml", lambda labels: labels["constraints"].append(key))
    arguments = {"to": "source('staging', 'subscriptions')", "field": "user_id"}
    add_test(copy, "labels", "user_id", {"relationships": {"name": "ours", "arguments": arguments}})
    edit(copy_month(months, "001", tmp_path) / "subscriptions.csv", lambda rows: rows.pop())  # of a new customer
    waived = ("--waive", "ours", "--reason", "no matter")
    result = run_copy(copy, january, "ingest", "001", "--data-dir", str(tmp_path), *waived)
    assert "that match no row of subscriptions by user_id: 1" in result.stderr
    assert result.returncode == 1
    assert january.state() == before
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    keys = "select count(*) from pg_constraint where conrelid = 'labels'::regclass and contype = 'f'"
    assert january.value(keys) == 2
    assert run_copy(copy, january, "ingest", "002", "--data-dir", str(months)).returncode == 0
    assert january.value(keys) == 2
    january.ok("verify")


@pytest.fixture
def named_later(copy: Path, january: Streamflow, months: Path, tmp_path: Path) -> tuple[str, ...]:
    """A restatement of February that removes a customer whom no file of March but labels has."""
    labels_may_name_nobody(copy)
    for month, tables in (("001", TABLES), ("002", ["labels"])):
        folder = copy_month(months, month, tmp_path)
        for table in tables:
            edit(folder / f"{table}.csv", lambda rows: rows.append(["only-by-mistake", *rows[1][1:]]))
    assert run_copy(copy, january, "ingest", "001..002", "--data-dir", str(tmp_path)).returncode == 0
    return ("ingest", "001", "--data-dir", str(months), "--restate", "--reason", "a mistake")


@pytest.mark.long
def test_a_restatement_without_whom_a_later_month_names_is_refused_before_it_is_begun(
    copy: Path, january: Streamflow, named_later: tuple[str, ...]
) -> None:
    """Otherwise production's foreign key would refuse his remaining rows after history was replaced."""
    before = january.state()
    refused = run_copy(copy, january, *named_later)
    assert refused.returncode == 1
    assert "rows of labels that would match no row of users by user_id: " in refused.stderr
    assert "first restate what refers to them: labels of 2024-03-31" in refused.stderr
    assert january.state() == before


@pytest.mark.long
def test_rows_of_a_table_that_is_no_longer_declared_are_not_deleted_with_whom_they_name(
    copy: Path, january: Streamflow, months: Path, named_later: tuple[str, ...]
) -> None:
    before = january.state()
    undeclare_labels(copy)
    assert run_copy(copy, january, "models").returncode == 0
    refused = run_copy(copy, january, *named_later)
    assert refused.returncode == 1
    assert "`alter table labels drop constraint labels_user_id_fkey` in psql" in refused.stderr
    assert january.state() == before
    january.connection.execute("alter table public.labels drop constraint labels_user_id_fkey")
    assert run_copy(copy, january, *named_later).returncode == 0
    assert january.production()["labels"] == before[0]["labels"]
    assert run_copy(copy, january, "verify").returncode == 0
    assert run_copy(copy, january, "ingest", "003", "--data-dir", str(months)).returncode == 0
    folder = str(copy.parent / "old")
    assert run_copy(copy, january, "archive", "--before", "2024-04-30", "--to", folder).returncode == 0
    assert january.rows("select distinct as_of::text from users_snapshots") == [("2024-04-30",)]
    assert january.rows("select distinct as_of::text from labels_snapshots") == [("2024-03-31",)]
    assert run_copy(copy, january, "verify").returncode == 0
    assert run_copy(copy, january, "archive", "--restore").returncode == 0
    assert run_copy(copy, january, "forget", "only-by-mistake", "--reason", "asked").returncode == 0
    assert january.value("select count(*) from labels_snapshots where user_id = 'only-by-mistake'") == 0
    assert run_copy(copy, january, "verify").returncode == 0
    january.connection.execute(
        "update ops.history set merged_at = null where as_of = '2024-04-30' or table_name = 'labels'"
    )
    cut_off = run_copy(copy, january, "dbt", "build", "--select", "complete_months+")
    assert "complete_months+` has published labels of 2024-01-31, labels of 2024-02-29," in cut_off.stdout


def labels_may_name_nobody(copy: Path, config: str = "severity: warn") -> None:
    """Configure the reference audit of labels so that it does not refuse every row that names nobody."""
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    known = "name: audit_labels_user_id_known_to_users\n"
    assert known in sources.read_text()
    sources.write_text(sources.read_text().replace(known, f"{known}                  config: {{{config}}}\n"))


def undeclare_labels(copy: Path) -> None:
    """Remove labels from the project, with every model that reads it."""
    models = copy / "dbt_project" / "models"
    sources = yaml.safe_load((models / "staging" / "_sources.yml").read_text())
    [staging] = [source for source in sources["sources"] if source["name"] == "staging"]
    staging["tables"] = [table for table in staging["tables"] if table["name"] != "labels"]
    (models / "staging" / "_sources.yml").write_text(yaml.safe_dump(sources, sort_keys=False))
    for name in ("*labels*", "training_set.*", "churn_by_contract.*", "_unit_tests.yml", "_exposures.yml"):
        for path in models.rglob(name):
            path.unlink()


def test_a_parse_that_fails_is_tried_again_without_what_dbt_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a snapshot declared in YAML, dbt's partial parse may find the tests of its file twice."""
    tried: list[bool] = []

    class Runner:
        def invoke(self, arguments: list[str]) -> Any:
            tried.append("--no-partial-parse" in arguments)
            return SimpleNamespace(success=tried[-1])

    monkeypatch.setattr("dbt.cli.main.dbtRunner", Runner)
    monkeypatch.setattr("dbt.adapters.factory.get_adapter_by_type", lambda _: SimpleNamespace(config=None))
    monkeypatch.setattr("loader.pipeline.dbt._require_same_database", lambda _: None)
    assert parse().success
    assert tried == [False, True]


@pytest.mark.long
def test_an_audit_that_cannot_store_its_failures_is_not_the_files_fault(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    name = f"audit_{'of_a_long_name_' * 4}"
    add_test(copy, "labels", "user_id", {"not_null": {"name": name, "config": {"store_failures": True}}})
    refused = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert refused.returncode == 2, refused
    assert f"the audit {name} of labels cannot be run: it stores its failures in a table" in refused.stderr
    assert "give it a shorter name" in refused.stderr


@pytest.mark.long
def test_an_audit_whose_number_is_not_whole_is_not_the_files_fault(
    copy: Path, streamflow: Streamflow, months: Path
) -> None:
    """dbt ends such a test in an error: if its `fail_calc` is null as no row fails, in every month."""
    audit = "{{ config(fail_calc='max(fee)') }} select 1 as fee from {{ source('staging', 'labels') }} where false"
    write(copy, "tests/ours.sql", audit)
    refused = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
    assert refused.returncode == 2, refused
    assert "the audit ours of labels cannot be run: its fail_calc max(fee) did not return" in refused.stderr
    write(copy, "tests/ours.sql", audit.replace("max(fee)", "coalesce(max(fee), 0)"))
    assert run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months)).returncode == 0


REF = """{% macro ref() %}{{ return(builtins.ref(*varargs, **kwargs).include(database=false)) }}{% endmacro %}
{% macro source(schema, table) %}{{ return(builtins.source(schema, table).include(database=false)) }}{% endmacro %}
"""


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("dbt_project.yml", "quoting: {database: false, schema: false, identifier: false}\n"),
        ("macros/ref.sql", REF),
    ],
)
@pytest.mark.long
def test_wrong_rows_are_found_however_a_project_has_dbt_write_names(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path, path: str, text: str
) -> None:
    before = january.state()
    with (copy / "dbt_project" / path).open("a") as file:
        file.write(text)
    set_value(copy_month(months, "001", tmp_path) / "labels.csv", 2, "user_id", "stranger")
    refused = run_copy(copy, january, "ingest", "001", "--data-dir", str(tmp_path))
    assert refused.returncode == 1, refused
    assert 'labels.csv:2  user_id  "stranger"  no such user_id in users.csv' in refused.stderr
    assert january.state() == before
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0


OTHER_VALUE = {"labels": ("churn_label", ""), "users": ("signup_date", "2020-02-02")}


def test_a_model_of_production_that_leaves_rows_out_or_repeats_some_is_refused(
    copy: Path, january: Streamflow, months: Path
) -> None:
    before, model = january.production(), copy / "dbt_project/models/production/labels.sql"
    shipped = model.read_text()
    model.write_text(f"{shipped}    and user_id <> '{january.value('select min(user_id) from labels')}'\n")
    refused = run_copy(copy, january, "dbt", "run", "--full-refresh", "--select", "labels")
    assert refused.returncode == 1
    assert "leaves rows out, or repeats some" in refused.stdout
    assert january.production() == before
    model.write_text(shipped.replace("\nwhere", "\ncross join (values (1), (2)) as twice (n)\nwhere"))
    repeated = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert repeated.returncode == 3
    assert "leaves rows out, or repeats some" in repeated.stderr
    one, other = (value_at(months / "month_001" / "labels.csv", line, "user_id") for line in (5, 6))
    key = f"    case user_id when '{other}' then '{one}' else user_id end as user_id,\n"
    model.write_text(shipped.replace("    user_id,\n", key, 1))
    exchanged = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert exchanged.returncode == 3, "as many rows, but one twice"
    assert january.production()["labels"] == before["labels"]
    model.write_text(shipped)
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    january.ok("verify")


@pytest.mark.parametrize("table", [*OTHER_VALUE])
@pytest.mark.long
def test_a_model_of_production_that_leaves_rows_out_is_refused_by_rebuilds(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path, table: str
) -> None:
    before, model = january.production(), copy / f"dbt_project/models/production/{table}.sql"
    shipped = model.read_text()
    left_out = january.value(f"select min(user_id) from {table}")
    model.write_text(f"{shipped}    and user_id <> '{left_out}'\n")
    set_value(copy_month(months, "000", tmp_path / "corrected") / f"{table}.csv", 2, *OTHER_VALUE[table])
    restate = ("ingest", "000", "--data-dir", str(tmp_path / "corrected"), "--restate", "--reason", "a typing error")
    for command in (("dbt", "run", "--full-refresh", "--select", table), restate):
        refused = run_copy(copy, january, *command)
        assert refused.returncode in {1, 3}, refused
        assert "leaves rows out, or repeats some" in refused.stdout + refused.stderr
        assert january.production()[table] == before[table]
    model.write_text(shipped)
    assert run_copy(copy, january, *restate).returncode == 0
    january.ok("verify")


@pytest.mark.long
def test_a_month_whose_history_lacks_rows_that_it_carries_forward_is_not_published(
    copy: Path, january: Streamflow, months: Path
) -> None:
    """Nor by a full refresh; once the model is corrected, the month is given up and ingested."""
    before, model = january.state(), copy / "dbt_project/models/history/labels_snapshots.sql"
    shipped = model.read_text()
    model.write_text(shipped.replace("as_of in ({{ earlier }})\n", "as_of in ({{ earlier }}) and false\n", 1))
    rebuild = ("dbt", "run", "--full-refresh", "--select", "path:models/production")
    for command in (("ingest", "001", "--data-dir", str(months)), rebuild):
        refused = run_copy(copy, january, *command)
        assert refused.returncode in {1, 3}, refused
        said = refused.stdout + refused.stderr
        assert "so the month is not published" in said
        assert "streamflow abandon" in said
        assert published(january) == ["2024-01-31"]
    model.write_text(shipped)
    assert run_copy(copy, january, "abandon", "001").returncode == 0
    assert run_copy(copy, january, "dbt", "run", "--select", "complete_months+").returncode == 0
    assert january.state() == before
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    january.ok("verify")


@pytest.mark.long
def test_production_that_gets_a_column_of_history_gets_its_values(
    copy: Path, january: Streamflow, months: Path
) -> None:
    """A model of history computed it, and the contract keeps it as retired."""
    folder = copy / "dbt_project" / "models"
    model, described = folder / "history" / "labels_snapshots.sql", folder / "history" / "labels_snapshots.yml"
    model.write_text(
        model.read_text()
        .replace("churn_label,\n        as_of,", "churn_label,\n        length(user_id) as size,\n        as_of,")
        .replace("churn_label,\n        {{ as_of }}", "churn_label,\n        size,\n        {{ as_of }}")
    )
    described.write_text(described.read_text().replace("      - name: as_of\n", f"{SIZE}      - name: as_of\n"))
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    assert january.value("select count(size) from labels_snapshots") > 0
    sources = folder / "staging" / "_sources.yml"
    sources.write_text(
        sources.read_text().replace("          - name: churn_label\n", f"{RETIRED}          - name: churn_label\n")
    )
    assert run_copy(copy, january, "models", "--overwrite").returncode == 0
    assert run_copy(copy, january, "ingest", "002", "--data-dir", str(months)).returncode == 0
    assert run_copy(copy, january, "verify").returncode == 0
    assert january.value("select count(size) from labels where observed_as_of = '2024-02-29'") > 0
