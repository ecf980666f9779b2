"""Runs docs/changes.md block by block: the declaration changes, months follow, and history stays provable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from loader.contract.tables import Table
from tests.conftest import REPOSITORY, Streamflow, run_copy
from tests.files import copy_month, edit, set_value
from tests.test_abandon import half_built
from tests.test_doctor import found

BLOCK = re.compile(r"^```(yaml|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def change(copy: Path, block: str) -> None:
    """Apply a block to the copy's declaration: add its columns, or update those with that name or alias."""
    path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(path.read_text())
    name = block.partition("\n")[0].removeprefix("# ")
    table = next(table for table in document["sources"][0]["tables"] if table["name"] == name)
    for new in yaml.safe_load(block):
        names = [new["name"], *new.get("config", {}).get("meta", {}).get("aliases", [])]
        known: dict[str, Any] | None = next((column for column in table["columns"] if column["name"] in names), None)
        if known is None:
            table["columns"].append(new)
        else:
            known.update(new)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def delivered(months: Path, to: Path) -> None:
    """Write the months that the page describes."""
    for month in ("001", "002", "003"):
        folder = copy_month(months, month, to)
        set_value(folder / "users.csv", 3, "user_gender", "Other")
        set_value(folder / "usage_agg_30d.csv", 3, "watch_hours_30d", "1000.5")
        payments = folder / "payments_agg_90d.csv"
        header, *lines = payments.read_text().splitlines()
        payments.write_text("\n".join([f"{header},payment_method", *(f"{line},card" for line in lines)]) + "\n")
    usage = to / "month_003" / "usage_agg_30d.csv"
    edit(usage, lambda rows: [row.pop(rows[0].index("skips_7d")) for row in reversed(rows)])
    usage.write_text(usage.read_text().replace("rebuffer_events_7d", "rebuffers_7d"))
    set_value(to / "month_003" / "payments_agg_90d.csv", 3, "failed_payments_90d", "1.5")


@pytest.mark.long
def test_the_page_works(copy: Path, january: Streamflow, months: Path, tmp_path: Path) -> None:
    delivered(months, tmp_path / "data")
    january.environment["STREAMFLOW_DATA_DIR"] = str(tmp_path / "data")
    if not january.on_citus:  # on Citus, it would keep `migrate` from renaming the column
        january.connection.execute("create view ours as select rebuffer_events_7d from latest.usage_agg_30d")
    for language, text in BLOCK.findall((REPOSITORY / "docs" / "changes.md").read_text(encoding="utf-8")):
        if language == "yaml":
            change(copy, text)
            continue
        for line in text.splitlines():
            if line == "streamflow ingest 001":
                a_check_adds_no_column(copy, january)
            command, _, said = line.partition("  # exit ")
            result = run_copy(copy, january, *command.split()[1:])
            code, _, reason = said.partition(": ")
            assert result.returncode == int(code or 0), (line, result)
            assert reason in result.stderr, (line, result)

    assert january.rows("select distinct as_of::text from published_months order by 1") == [
        ("2024-01-31",), ("2024-02-29",), ("2024-04-30",)
    ]  # fmt: skip
    assert january.value("select count(*) from payments_agg_90d where failed_payments_90d = 1.5") == 1
    by_date = "select as_of::text, {} from {}_snapshots where observed_as_of = as_of group by 1 order by 1"
    for table, column, nulls in (("usage_agg_30d", "skips_7d", [False, False, True]),
                                 ("usage_agg_30d", "rebuffers_7d", [False, False, False]),
                                 ("payments_agg_90d", "payment_method", [True, False, False])):  # fmt: skip
        rows = january.rows(by_date.format(f"bool_and({column} is null)", table))
        assert [is_null for _, is_null in rows] == nulls, column
    assert january.value("select count(rebuffers_7d) > 0 from latest.usage_agg_30d")
    if not january.on_citus:
        assert january.value("select count(rebuffer_events_7d) > 0 from ours"), "a view of somebody's own is not lost"


def a_check_adds_no_column(copy: Path, streamflow: Streamflow) -> None:
    """The name of a new column may be a slip, so the tables get it only when a month is published."""
    assert run_copy(copy, streamflow, "check", "001").returncode == 0
    assert run_copy(copy, streamflow, "dbt", "build", "--select", "source:staging").returncode == 0
    columns = "select attrelid::regclass::text from pg_attribute where attname = 'payment_method'"
    assert streamflow.rows(columns) == [("staging.payments_agg_90d",)]
    frozen = run_copy(copy, streamflow, "freeze", "000")
    assert frozen.returncode == 3
    assert "the next published month adds it. To add it now, run `streamflow dbt run" in frozen.stderr


@pytest.mark.long
def test_dbt_between_a_rename_and_its_migration_is_in_nobodys_way(copy: Path, january: Streamflow) -> None:
    """It adds new columns to staging, but not one that may be a new name."""
    change(copy, "# usage_agg_30d\n- name: rebuffers_7d\n  config: {meta: {aliases: [rebuffer_events_7d]}}\n")
    assert run_copy(copy, january, "dbt", "run", "--select", "churn_by_contract").returncode == 0
    models = ("usage_agg_30d_snapshots", "usage_agg_30d", "training_set")
    assert run_copy(copy, january, "models", *models, "--overwrite").returncode == 0
    migrated = run_copy(copy, january, "migrate")
    assert migrated.returncode == 0, migrated
    names = "select attrelid::regclass::text from pg_attribute where attname = 'rebuffers_7d' order by 1"
    assert ("staging.usage_agg_30d",) in january.rows(names)
    assert run_copy(copy, january, "verify").returncode == 0


@pytest.mark.long
def test_a_column_that_was_only_tried_out_is_dropped_as_the_message_says(
    copy: Path, january: Streamflow, months: Path, undisturbed: Any
) -> None:
    """Its own model adds it, another one does not; then the declaration becomes what it was, as on another branch."""
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    before = sources.read_text()
    change(copy, "# labels\n- name: tried\n  data_type: text\n  config: {meta: {optional: true}}\n")
    models = ("models", "labels_snapshots", "labels", "training_set", "--overwrite")
    assert run_copy(copy, january, *models).returncode == 0
    state = january.state()
    assert run_copy(copy, january, "dbt", "run", "--select", "churn_by_contract").returncode == 0
    assert january.state() == state
    assert run_copy(copy, january, "dbt", "run", "--select", "labels").returncode == 0
    sources.write_text(before)
    assert run_copy(copy, january, *models).returncode == 0
    ingest, by_hand = ("ingest", "001", "--data-dir", str(months)), ("dbt", "run", "--select", "churn_by_contract")
    for command in (ingest, by_hand):
        refused = run_copy(copy, january, *command)
        assert refused.returncode == 2, refused
        told = " ".join((refused.stdout + refused.stderr).split())
        [drop] = set(re.findall(r"no month has brought it: declare it, or `(alter table [^`]+)` in psql", told))
        january.connection.execute(drop.encode())
    assert run_copy(copy, january, *ingest).returncode == 0
    assert january.state() == undisturbed
    assert run_copy(copy, january, "verify").returncode == 0


@pytest.mark.long
def test_a_type_edited_while_a_month_is_half_built_is_no_dead_end(
    copy: Path, january: Streamflow, months: Path, undisturbed: Any
) -> None:
    """Once, the month then stayed unfinished for ever, and the doctor found no problem."""
    half_built(january, months)
    change(copy, "# payments_agg_90d\n- name: failed_payments_90d\n  data_type: numeric\n")
    models = ("payments_agg_90d_snapshots", "payments_agg_90d", "latest_payments_agg_90d", "training_set")
    assert run_copy(copy, january, "models", *models, "--overwrite").returncode == 0
    refused = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert refused.returncode == 2
    assert "`streamflow migrate` changes them" in refused.stderr
    doctor = run_copy(copy, january, "doctor")
    assert doctor.returncode == 3
    assert "streamflow abandon 001" in doctor.stdout
    assert "`streamflow migrate`" in doctor.stdout
    assert run_copy(copy, january, "migrate").returncode == 0
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    assert january.state() == undisturbed, "5 is Decimal(5)"
    assert run_copy(copy, january, "verify").returncode == 0
    assert found(january("doctor", "--json"), "declaration")[0][0] == "problem", "by the declaration as it was"


@pytest.mark.long
def test_an_audit_warns_of_a_table_that_gets_a_column(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """The run queries the finding again when it ends, and by then the table has the column."""
    labels = copy_month(months, "001", tmp_path) / "labels.csv"
    header, *lines = labels.read_text().splitlines()
    assert header == "user_id,churn_label"
    labels.write_text("\n".join([f"{header},source", *(f"{line.split(',')[0]},true,crm" for line in lines)]) + "\n")
    change(copy, "# labels\n- name: source\n  data_type: text\n")
    models = ("labels_snapshots", "labels", "latest_labels", "training_set")
    assert run_copy(copy, january, "models", *models, "--overwrite").returncode == 0
    result = run_copy(copy, january, "ingest", "001", "--data-dir", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert january.rows("select finding from ops.audits where status = 'warn'") == [
        ("churn_label has a single value, and had more on 2024-01-31",)
    ]


LANDED_BEFORE = {
    "labels": "# labels\n- name: source\n  data_type: text\n",
    "payments_agg_90d": "# payments_agg_90d\n- name: failed_payments_90d\n  data_type: numeric\n",
    "loyalty": """
- name: loyalty
  description: Loyalty points.
  config: {meta: {primary_key: [user_id]}}
  columns: [{name: user_id, data_type: text, description: The customer.}]
""",
}


@pytest.mark.parametrize(
    "table", ["labels", *(pytest.param(name, marks=pytest.mark.long) for name in ("payments_agg_90d", "loyalty"))]
)
def test_a_month_that_landed_before_its_declaration_changed_is_landed_again(
    copy: Path, streamflow: Streamflow, months: Path, table: str
) -> None:
    """`dbt build` would end in an error of SQL, or succeed and publish nothing of a table that the month lacks."""
    assert run_copy(copy, streamflow, "land", "000", "--data-dir", str(months)).returncode == 0
    if table == "loyalty":
        path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
        document = yaml.safe_load(path.read_text())
        document["sources"][0]["tables"] += yaml.safe_load(LANDED_BEFORE[table])
        path.write_text(yaml.safe_dump(document, sort_keys=False))
    else:
        change(copy, LANDED_BEFORE[table])
    run_copy(copy, streamflow, "models")
    assert run_copy(copy, streamflow, "models", *models_of(table), "--overwrite").returncode == 0
    refused = run_copy(copy, streamflow, "dbt", "build")
    assert refused.returncode == 2, refused
    said = f"the month in staging was landed before the declaration of staging.{table} was changed"
    assert said in refused.stdout, refused
    assert "Land the month again." in refused.stdout
    again = run_copy(copy, streamflow, "land", "000", "--data-dir", str(months))
    if table == "payments_agg_90d":
        assert run_copy(copy, streamflow, "dbt", "build").returncode == 0
        assert streamflow.value("select count(*) from published_months") == 1
    else:
        assert (again.returncode, " is missing" in again.stderr) == (1, True), again


@pytest.mark.long
def test_dbt_build_adds_a_column_that_was_declared_after_the_month_was_published(
    copy: Path, january: Streamflow
) -> None:
    """As in CI after a merge: the month that is in staging was landed without the column."""
    change(copy, LANDED_BEFORE["labels"])
    assert run_copy(copy, january, "models", *models_of("labels"), "--overwrite").returncode == 0
    january.connection.execute("create view theirs as select user_id from latest.labels")
    january.connection.execute("grant select on latest.labels to pg_monitor")
    built = run_copy(copy, january, "dbt", "build")
    assert built.returncode == 0, built.stdout
    columns = january.rows("select attrelid::regclass::text from pg_attribute where attname = 'source' and attnum > 0")
    assert {("staging.labels",), ("labels",), ("labels_snapshots",), ("latest.labels",)} <= set(columns)
    assert january.value("select count(*) from theirs") > 0
    assert january.value("select has_table_privilege('pg_monitor', 'latest.labels', 'select')")
    assert run_copy(copy, january, "verify").returncode == 0


def models_of(table: str) -> tuple[str, ...]:
    return (f"{table}_snapshots", table, f"latest_{table}", "training_set")


@pytest.mark.parametrize(
    ("aliases", "said"),
    [
        (["note"], "note is a name of two columns"),
        (["Old Name", "Old Name"], "Old Name is a name of two columns"),
        ([""], "at least 1 character"),
    ],
)
def test_names_of_a_column_are_its_own(aliases: list[str], said: str) -> None:
    columns = [
        {"name": "amount", "data_type": "int", "config": {"meta": {"aliases": aliases}}},
        {"name": "note", "data_type": "text"},
    ]
    with pytest.raises(ValueError, match=said):
        Table.model_validate({"name": "things", "config": {"meta": {"primary_key": "note"}}, "columns": columns})


def labels_tell_of_somebody(copy: Path, streamflow: Streamflow) -> None:
    """Give labels a column that references users, in place of their reference by user_id."""
    path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(path.read_text())
    labels = next(table for table in document["sources"][0]["tables"] if table["name"] == "labels")
    labels["config"]["meta"]["references"] = {"table": "users", "columns": ["told_by"]}
    labels["columns"].append({"name": "told_by", "data_type": "text", "config": {"meta": {"optional": True}}})
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    models = ("labels", "labels_snapshots", "training_set")
    assert run_copy(copy, streamflow, "models", *models, "--overwrite").returncode == 0


def told_by(folder: Path, customer: str) -> None:
    """Add the column told_by to the labels of a month: `customer` in the first row, nothing in the others."""
    header, first, *rows = (folder / "labels.csv").read_text().splitlines()
    lines = [f"{header},told_by", f"{first},{customer}", *(f"{row}," for row in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.long
def test_a_new_column_may_bring_a_reference_of_its_own(
    copy: Path, january: Streamflow, months: Path, tmp_path: Path
) -> None:
    january.connection.execute("alter table labels drop constraint labels_user_id_fkey")
    labels_tell_of_somebody(copy, january)
    folder = copy_month(months, "001", tmp_path)
    told_by(folder, (folder / "users.csv").read_text().splitlines()[1].split(",")[0])
    result = run_copy(copy, january, "ingest", "001", "--data-dir", str(tmp_path))
    assert result.returncode == 0, result
    keys = "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'labels'::regclass and contype = 'f'"
    if not january.on_citus:  # it has no foreign key on a column other than the distribution column
        assert "FOREIGN KEY (told_by) REFERENCES users(user_id)" in january.value(keys)
    january.ok("verify")


@pytest.mark.long
def test_a_restatement_may_take_out_whom_only_superseded_rows_name(
    copy: Path, streamflow: Streamflow, months: Path, tmp_path: Path
) -> None:
    """A late month names the customer; production has the newer row of that label, which no longer does."""
    labels_tell_of_somebody(copy, streamflow)
    first, late = (copy_month(months, month, tmp_path / "first") for month in ("001", "000"))
    edit(first / "users.csv", lambda rows: rows.append(["only-here", *rows[1][1:]]))
    for folder in (first, late):
        told_by(folder, "only-here")
    again = copy_month(months, "001", tmp_path / "again")
    told_by(again, "")
    labels = [(folder / "labels.csv").read_text().splitlines()[1].split(",")[0] for folder in (first, late)]
    assert labels[0] == labels[1], "both months have the label that names him"
    for month in ("001", "000"):
        assert run_copy(copy, streamflow, "ingest", month, "--data-dir", str(tmp_path / "first")).returncode == 0
    restate = ("--restate", "--reason", "a mistake")
    result = run_copy(copy, streamflow, "ingest", "001", "--data-dir", str(tmp_path / "again"), *restate)
    assert result.returncode == 0, result
    assert streamflow.value("select count(*) from users where user_id = 'only-here'") == 0
    streamflow.ok("verify")
