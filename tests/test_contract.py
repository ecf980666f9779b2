"""One declaration of a table: what follows from it, and what happens when it is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from loader.contract.models import stale_models, write_models
from loader.contract.tables import load_contract
from loader.errors import WrongUsage
from tests.conftest import Streamflow, run_copy

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
    assert stale_models(load_contract()) == {}


def declare(copy: Path, table: dict[str, object]) -> None:
    """Add a table to the copy's sources file."""
    path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(path.read_text())
    document["sources"][0]["tables"].append(table)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def test_a_seventh_table_is_declared_not_programmed(
    copy: Path, streamflow: Streamflow, months: Path, tmp_path: Path
) -> None:
    streamflow.ok("ingest", "000", "--data-dir", months)
    declare(copy, PLANS)
    data = tmp_path / "data"
    for month in ("month_000", "month_001"):
        shutil.copytree(months / month, data / month)
        users = [line.split(",")[0] for line in (data / month / "users.csv").read_text().splitlines()[1:]]
        lines = ["offer,user_id,discount", *(f"gold,{user},0.5" for user in users)]
        (data / month / "plans.csv").write_text("\n".join(lines) + "\n")

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

    plans = data / "month_001" / "plans.csv"
    shutil.copytree(data / "month_001", data / "month_002")
    (data / "month_002" / "plans.csv").write_text(plans.read_text().replace("gold", "bronze", 1))
    refused = run_copy(copy, streamflow, "ingest", "002", "--data-dir", str(data))
    assert refused.returncode == 1
    assert "plans.csv" in refused.stderr


def test_a_column_declared_later_is_added(copy: Path, streamflow: Streamflow, months: Path) -> None:
    streamflow.ok("ingest", "000", "--data-dir", months)
    path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(path.read_text())
    labels = next(table for table in document["sources"][0]["tables"] if table["name"] == "labels")
    labels["columns"].append({"name": "reason", "data_type": "text", "config": {"meta": {"optional": True}}})
    path.write_text(yaml.safe_dump(document, sort_keys=False))

    result = run_copy(copy, streamflow, "ingest", "001", "--data-dir", str(months))

    assert result.returncode == 0, result.stderr
    assert streamflow.value("select bool_and(reason is null) from labels")
    assert streamflow.value("select bool_and(reason is null) from labels_snapshots")
    assert run_copy(copy, streamflow, "verify").returncode == 0


def test_a_column_that_is_no_longer_declared_is_named(copy: Path, streamflow: Streamflow, months: Path) -> None:
    streamflow.ok("ingest", "003", "--data-dir", months)
    path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(path.read_text())
    table = next(table for table in document["sources"][0]["tables"] if table["name"] == "subscriptions")
    table["columns"] = [column for column in table["columns"] if column["name"] != "add_on_backup"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    before = streamflow.state()

    result = run_copy(copy, streamflow, "ingest", "000", "--data-dir", str(months))

    assert result.returncode == 3
    assert "add_on_backup that is no longer declared" in result.stderr
    assert streamflow.state() == before


def test_a_table_that_is_no_longer_declared_leaves_no_models(copy: Path) -> None:
    tables = [table for table in load_contract() if table.name != "labels"]
    project = copy / "dbt_project"
    write_models(tables, project)
    assert not list(project.glob("models/*/labels*.sql"))
    assert stale_models(tables, project) == {}
    assert (project / "models" / "gate" / "gate.sql").exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({**PLANS, "config": {"meta": {"primary_key": "nobody"}}}, "primary_key nobody is not one of the columns"),
        ({**PLANS, "columns": [*PLANS["columns"], {"name": "as_of", "data_type": "date"}]}, "streamflow adds itself"),
        ({**PLANS, "name": "plans; drop table users"}, "String should match pattern"),
        ({**PLANS, "columns": [{"name": "user_id", "data_type": "text); drop table x; --"}]}, "Input should be"),
        ({**PLANS, "config": {"meta": {"primary_key": "user_id", "references": "people"}}}, "references people"),
    ],
    ids=["no such key", "reserved column", "hostile name", "hostile type", "no such parent"],
)  # fmt: skip
def test_an_unsound_declaration_is_named(copy: Path, table: dict[str, object], said: str) -> None:
    declare(copy, table)
    with pytest.raises(WrongUsage, match=said):
        load_contract(copy / "dbt_project" / "models" / "staging" / "_sources.yml")
