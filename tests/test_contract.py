"""One declaration of a table: what follows from it, and what happens when it is wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from loader.contract.customers import found, training_columns
from loader.contract.declared import changes
from loader.contract.model_check import model_faults
from loader.contract.models import write_models
from loader.contract.tables import Table, described_in, load_contract
from loader.errors import WrongUsage
from loader.pipeline import ingest
from loader.project import SOURCES
from loader.readers import plan
from tests.conftest import Streamflow, run_copy
from tests.files import copy_month, set_value

PLANS: dict[str, Any] = {
    "name": "plans",
    "description": "What each customer was offered. One row per customer.",
    "config": {"meta": {"primary_key": "user_id", "references": "users"}},
    "columns": [
        {"name": "user_id", "data_type": "text", "data_tests": ["not_null", "unique"]},
        {
            "name": "offer",
            "data_type": "text",
            "data_tests": [{"accepted_values": {"arguments": {"values": ["gold", "silver"]}}}],
        },
        {"name": "discount", "data_type": "numeric"},
    ],
}


def test_models_are_in_step_with_the_declaration() -> None:
    assert list(model_faults(load_contract())) == []


def test_a_database_of_another_project_is_refused(january: Streamflow) -> None:
    """Its months would hide those of the other project from their readers."""
    other = Table.model_validate({**PLANS, "config": {"meta": {"primary_key": "user_id"}}})
    with pytest.raises(WrongUsage, match="it is another project's"):
        changes(january.connection, [other])
    assert list(changes(january.connection, [*load_contract(), other])) == []


def test_columns_of_a_training_set_have_names_of_their_own() -> None:
    """Even if a name prefixed with its table's is that of another column, or of one that the view adds."""
    tables = [
        Table.model_validate({
            "name": name,
            "config": {"meta": {"primary_key": "uid"}},
            "columns": [{"name": column, "data_type": "text"} for column in ("uid", *columns)],
        })
        for name, *columns in (
            ("person", "name", "x"), ("event", "timestamp"), ("login", "timestamp"), ("a", "x"), ("b", "a_x", "colour")
        )
    ]  # fmt: skip
    names = [name for name, _, _ in training_columns(found(tables))]
    assert names == ["name", "person_x", "event_timestamp_", "login_timestamp", "a_x_", "a_x", "colour"]


@pytest.mark.parametrize("related", [True, False])
def test_an_id_is_of_its_own_table(related: bool) -> None:
    """A product does not belong to the customer with the same id, nor does an item that references an order."""
    tables = []
    for name, to in (("customer", ""), ("order", "customer"), ("item", "order"), ("product", "")):
        to = to if related else ""  # noqa: PLW2901
        reference = {"references": {"table": to, "columns": f"{to}_id"}} if to else {}
        columns = [{"name": column, "data_type": "int"} for column in ("id", *([f"{to}_id"] if to else []))]
        declared = {"name": name, "config": {"meta": {"primary_key": "id", **reference}}, "columns": columns}
        tables.append(Table.model_validate(declared))
    assert {table.name: table.customer for table in found(tables)} == {
        "customer": ("id",), "order": ("customer_id",) if related else (), "item": (), "product": ()
    }  # fmt: skip


def declare(copy: Path, table: Any) -> None:
    """Add a table to the copy's sources file."""
    path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(path.read_text())
    document["sources"][0]["tables"].append(table)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def test_months_that_were_published_before_a_table_need_no_file_of_it(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [*load_contract(), Table.model_validate(PLANS)]
    for module in (ingest, plan):
        monkeypatch.setattr(module, "load_contract", lambda: tables)
    for module in (ingest, plan):
        monkeypatch.setattr(module, "require_models", lambda _: None)
    assert "nothing to do" in january.ok("ingest", "000", "--data-dir", months).out
    assert "nothing: published already" in january.ok("ingest", "000", "--data-dir", months, "--dry-run").out
    missing = january("ingest", "001", "--data-dir", months, "--dry-run")
    assert missing.code == 1
    assert "plans.csv  the file is missing\n" in missing.out, "no file of another table is meant"


@pytest.mark.long
def test_a_seventh_table_is_declared_not_programmed(
    copy: Path, streamflow: Streamflow, months: Path, tmp_path: Path
) -> None:
    streamflow.ok("ingest", "000", "--data-dir", months)
    declare(copy, PLANS)
    unknown = run_copy(copy, streamflow, "ingest", "001", "--data-dir", str(months))
    assert unknown.returncode == 2
    assert "`streamflow models` writes what is missing" in unknown.stderr
    assert run_copy(copy, streamflow, "ingest", "001", "--data-dir", str(months), "--dry-run").returncode == 2
    written = run_copy(copy, streamflow, "models")
    assert (written.returncode, "out of step: " in written.stdout) == (0, True), "it did what it was asked for"
    assert run_copy(copy, streamflow, "models", "training_set", "--overwrite").returncode == 0
    again = copy_month(months, "000", tmp_path / "again")
    set_value(again / "labels.csv", 3, "churn_label", "")
    more = ("--data-dir", str(tmp_path / "again"), "--restate", "--reason", "without plans, which came later")
    assert run_copy(copy, streamflow, "ingest", "000", *more).returncode == 0
    copy_month(months, "000", tmp_path / "data")
    more = ("--data-dir", str(tmp_path / "data"), "--restate", "--reason", "as it was")
    assert run_copy(copy, streamflow, "ingest", "000", *more).returncode == 0
    shutil.rmtree(tmp_path / "data")
    data = tmp_path / "data"
    for month in ("month_000", "month_001"):
        shutil.copytree(months / month, data / month)
        users = [line.split(",")[0] for line in (data / month / "users.csv").read_text().splitlines()[1:]]
        lines = ["offer,user_id,discount", *(f"gold,{user},0.5" for user in users)]
        (data / month / "plans.csv").write_text("\n".join(lines) + "\n")
    header, *rows = (data / "month_000" / "labels.csv").read_text().splitlines()
    (data / "month_000" / "labels.csv").write_text("\n".join([header, *reversed(rows), ""]))

    for month in ("001", "000"):
        result = run_copy(copy, streamflow, "ingest", month, "--data-dir", str(data))
        assert result.returncode == 0, result.stderr

    assert streamflow.value("select count(*) from plans") == streamflow.value("select count(*) from users")
    assert streamflow.rows("select as_of::text, count(*) from plans_snapshots group by 1 order by 1") == [
        (
            date,
            streamflow.value("select count(*) from users_snapshots where as_of = %s and observed_as_of = as_of", date),
        )
        for date in ("2024-01-31", "2024-02-29")
    ]
    keys = "select contype::text from pg_constraint where conrelid = 'plans'::regclass and contype <> 'n' order by 1"
    assert streamflow.rows(keys) == [("f",), ("p",)]

    assert run_copy(copy, streamflow, "ingest", "003", "--data-dir", str(months)).returncode == 1
    plans = data / "month_001" / "plans.csv"
    shutil.copytree(data / "month_001", data / "month_002")
    (data / "month_002" / "plans.csv").write_text(plans.read_text().replace("gold", "bronze", 1))
    refused = run_copy(copy, streamflow, "ingest", "002", "--data-dir", str(data))
    assert refused.returncode == 1
    assert "plans.csv" in refused.stderr


def test_a_column_that_is_no_longer_declared_is_named(copy: Path, streamflow: Streamflow, months: Path) -> None:
    streamflow.ok("ingest", "003", "--data-dir", months)
    path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(path.read_text())
    table = next(table for table in document["sources"][0]["tables"] if table["name"] == "subscriptions")
    table["columns"] = [column for column in table["columns"] if column["name"] != "add_on_backup"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    before = streamflow.state()
    for is_in_models in (True, False):
        result = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))
        assert result.returncode == 2, is_in_models
        assert "add_on_backup that is no longer declared, but history keeps its values" in result.stderr
        assert run_copy(copy, streamflow, "models", "--overwrite").returncode == 0
    assert_told_by_dbt_too(copy, streamflow, result.stderr, " that is no longer declared")
    assert streamflow.state() == before


def assert_told_by_dbt_too(copy: Path, streamflow: Streamflow, refusal: str, beginning: str) -> None:
    """A refusal of the loader, from these words on, is that of dbt run by hand."""
    said = " ".join(run_copy(copy, streamflow, "dbt", "run", "--select", "labels").stdout.split())
    assert beginning + " ".join(refusal.partition(beginning)[2].split()) in said


@pytest.mark.long
def test_a_model_that_somebody_edited_stays_edited(copy: Path, streamflow: Streamflow, months: Path) -> None:
    """Tests, tags, grants, access, a derived column: only `models --overwrite` reverts them, and dbt applies them."""
    sql, properties = (copy / "dbt_project" / "models" / "production" / f"labels.{kind}" for kind in ("sql", "yml"))
    sql.write_text(
        sql.read_text().replace("        churn_label,\n", "        churn_label,\n        not churn_label as stayed,\n")
    )
    document = yaml.safe_load(properties.read_text())
    [model] = document["models"]
    model["config"] |= {"tags": ["ours"], "grants": {"select": ["pg_monitor"]}, "access": "public"}
    model["columns"].append({"name": "stayed", "data_type": "boolean", "data_tests": ["not_null"]})
    properties.write_text(yaml.safe_dump(document, sort_keys=False))
    edited = sql.read_text(), properties.read_text()

    for month in ("000", "001"):
        assert run_copy(copy, streamflow, "ingest", month, "--data-dir", str(months)).returncode == 0
    assert run_copy(copy, streamflow, "models").returncode == 0
    assert (sql.read_text(), properties.read_text()) == edited
    assert streamflow.value("select bool_and(stayed = not churn_label) from labels")
    assert run_copy(copy, streamflow, "verify").returncode == 0
    assert streamflow.value("select has_table_privilege('pg_monitor', 'labels', 'select')")
    assert run_copy(copy, streamflow, "models", "--overwrite").returncode == 0
    assert "stayed" not in sql.read_text()


@pytest.mark.long
def test_a_type_that_was_changed_is_refused_and_can_be_changed_back(
    copy: Path, january: Streamflow, months: Path
) -> None:
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    declared, before, month = sources.read_text(), january.state(), ("001", "--data-dir", str(months))
    document = yaml.safe_load(declared)
    payments = next(t for t in document["sources"][0]["tables"] if t["name"] == "payments_agg_90d")
    next(c for c in payments["columns"] if c["name"] == "failed_payments_90d")["data_type"] = "numeric"
    sources.write_text(yaml.safe_dump(document, sort_keys=False))
    assert run_copy(copy, january, "ingest", *month).returncode == 2
    assert run_copy(copy, january, "models", "--overwrite").returncode == 0
    for command in ("check", "ingest"):
        refused = run_copy(copy, january, command, *month)
        assert refused.returncode == 2
        assert "`streamflow migrate` changes them" in refused.stderr
    assert "`streamflow migrate` changes a column" in run_copy(copy, january, "dbt", "build").stdout
    assert january.state() == before
    sources.write_text(declared)
    assert run_copy(copy, january, "models", "--overwrite").returncode == 0
    assert run_copy(copy, january, "ingest", *month, "--dry-run").returncode == 0
    assert run_copy(copy, january, "verify").returncode == 0


@pytest.mark.long
def test_another_key_is_refused_and_can_be_changed_back(copy: Path, january: Streamflow, months: Path) -> None:
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    declared, before, month = sources.read_text(), january.state(), ("001", "--data-dir", str(months))
    document = yaml.safe_load(declared)
    payments = next(table for table in document["sources"][0]["tables"] if table["name"] == "payments_agg_90d")
    payments["config"]["meta"]["primary_key"] = ["user_id", "failed_payments_90d"]
    sources.write_text(yaml.safe_dump(document, sort_keys=False))
    assert run_copy(copy, january, "models", "--overwrite").returncode == 0
    refused = run_copy(copy, january, "check", *month)
    assert refused.returncode == 2
    assert "payments_agg_90d has the key user_id in the database" in refused.stderr
    assert_told_by_dbt_too(copy, january, refused.stderr, ": history keeps its key")
    assert january.state() == before
    sources.write_text(declared)
    assert run_copy(copy, january, "models", "--overwrite").returncode == 0
    assert run_copy(copy, january, "ingest", *month, "--dry-run").returncode == 0


@pytest.mark.parametrize("name", ["users", "users_snapshots"])
def test_somebody_elses_table_is_neither_dropped_nor_changed(streamflow: Streamflow, months: Path, name: str) -> None:
    streamflow.connection.execute(
        f"create table {name} (user_id int, theirs text); insert into {name} values (1, 'a')".encode()
    )
    for command in (("init",), ("check", "000", "--data-dir", months), ("ingest", "000", "--data-dir", months)):
        assert streamflow(*command).code in {2, 3}
        assert streamflow.rows(f"select * from {name}") == [(1, "a")], command
    streamflow.dbt("build")
    assert streamflow.rows(f"select * from {name}") == [(1, "a")]


def test_models_of_a_table_that_is_no_longer_declared_are_named(
    copy: Path, use_project: Callable[[Path], None]
) -> None:
    tables = [table for table in load_contract() if table.name != "labels"]
    use_project(copy)
    write_models(tables)
    lacking = [str(one) for one in model_faults(tables)]
    assert lacking == [
        "models/marts/training_set.yml: its labels are churn_label, but are declared as none",
        "models/history/labels_snapshots.sql is of a table that is not declared: remove labels_snapshots.sql,"
        " labels_snapshots.yml, latest_labels.sql, latest_labels.yml, labels.sql, labels.yml",
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({**PLANS, "config": {"meta": {"primary_key": "nobody"}}}, "primary_key nobody is not one of the columns"),
        ({**PLANS, "columns": [*PLANS["columns"], {"name": "as_of", "data_type": "date"}]}, "PostgreSQL adds itself"),
        ({**PLANS, "name": "plans; drop table users"}, "String should match pattern"),
        ({**PLANS, "columns": [{"name": "user_id", "data_type": "text); drop table x; --"}]}, "user_id.data_type In"),
        ({**PLANS, "config": {"meta": {"primary_key": "user_id", "references": "people"}}}, "references people"),
        (
            {**PLANS, "columns": [{"name": "user_id", "data_type": "text", "config": {"meta": {"retired": True}}}]},
            "is optional or retired",
        ),
        ({**PLANS, "columns": [{"name": f"c{n}", "data_type": "int"} for n in range(801)]}, "at most 800 items"),
        (
            {**PLANS, "config": {"meta": {**PLANS["config"]["meta"], "files": "users.csv"}}},
            "tables users and plans would both read users.csv",
        ),
        ("plans", "table plans cannot be used.* stands where `key: value` belongs"),
        ({**PLANS, "config": {"meta": "user_id"}}, "'user_id' stands where `key: value` belongs"),
        ({**PLANS, "columns": ["offer"]}, "'offer' stands where `key: value` belongs"),
    ],
    ids=["no such key", "reserved column", "hostile name", "hostile type", "no such parent", "no key",
         "wide", "files", "name", "meta", "column"],
)  # fmt: skip
def test_an_unsound_declaration_is_named(
    copy: Path, use_project: Callable[[Path], None], table: Any, said: str
) -> None:
    declare(copy, table)
    use_project(copy)
    with pytest.raises(WrongUsage, match=said):
        load_contract()


def test_a_declaration_of_no_table_is_named(tmp_path: Path, use_project: Callable[[Path], None]) -> None:
    (tmp_path / SOURCES).parent.mkdir(parents=True)
    (tmp_path / SOURCES).write_text("sources: [{name: staging, tables: []}]")
    use_project(tmp_path)
    with pytest.raises(WrongUsage, match="declares no table"):
        load_contract()


@pytest.mark.parametrize(
    "text", ["models: [\n", "- models", "models: [labels]", "models:\n  - {name: labels, columns: [a]}"]
)
def test_properties_that_dbt_cannot_read_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.yml"
    path.write_text(text)
    with pytest.raises(WrongUsage, match=re.escape(f"{path} cannot be read as properties of dbt models")):
        described_in(path, "labels")


def test_properties_may_be_left_empty(tmp_path: Path) -> None:
    path = tmp_path / "labels.yml"
    path.write_text("models:\n  - name: labels\n    columns:\n")
    assert described_in(path, "labels")["columns"] == {}
