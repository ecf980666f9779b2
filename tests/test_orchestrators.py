"""The Python functions, the Prefect flow, and the examples for Airflow and Dagster where those are installed."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loader import api, dbt
from loader.settings import load_settings
from tests.conftest import REPOSITORY, TABLES, Streamflow, parsed_once
from tests.files import copy_month


def load(path: str) -> Any:
    """A Python file of the repository that is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[Path(path).stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def here(streamflow: Streamflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Streamflow]:
    """This process's own settings name the empty database."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name, value in streamflow.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dbt, "parse", parsed_once)
    load_settings.cache_clear()
    yield streamflow
    load_settings.cache_clear()


def test_the_functions_do_what_the_commands_do(here: Streamflow, months: Path) -> None:
    assert (api.months(), api.verify()) == ([], [])
    assert api.check_month(0, months).state == "checked"
    assert api.ingest_month("000", months).state == "published"
    assert api.ingest_month(0, str(months)).state == "unchanged"
    assert [(month.month, month.state) for month in api.months()] == [("000", "published")]
    verdicts = api.verify()
    assert len(verdicts) == 2 * len(TABLES)
    assert all(verdict.sound for verdict in verdicts)


def test_refused_data_is_an_exception_with_its_rejects(here: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path / "bad")
    (next(folder.rglob("labels.csv"))).unlink()
    with pytest.raises(api.Refused, match="refused") as caught:
        api.ingest_month("000", tmp_path / "bad")
    assert caught.value.exit_code == 1
    assert caught.value.rejects.count == 1


def test_no_database_is_an_exception_that_may_be_tried_again(here: Streamflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "1")
    load_settings.cache_clear()
    with pytest.raises(api.SurroundingsFailed):
        api.months()


@pytest.mark.parametrize(("month", "restate"), [("x", None), ("000", " ")])
def test_wrong_usage_is_an_exception(month: str, restate: str | None) -> None:
    with pytest.raises(api.WrongUsage):
        api.ingest_month(month, restate=restate)


@pytest.mark.filterwarnings("default")
def test_the_prefect_flow_ingests_a_month(here: Streamflow, months: Path) -> None:
    pytest.importorskip("prefect", reason="Prefect is not installed")
    from prefect.testing.utilities import prefect_test_harness

    module = load("orchestration/prefect_flow.py")
    with prefect_test_harness():
        assert module.month_flow("000", str(months)).state == "published"
        with pytest.raises(api.Refused):
            module.month_flow("000", str(months / "nothing"))
    assert here.value("select count(*) from ops.loads where state = 'refused'") == 1, "a refusal is not tried again"


def test_the_airflow_example_is_a_dag() -> None:
    pytest.importorskip("airflow", reason="Airflow is not installed")
    assert sorted(load("docs/orchestrators/airflow_dag.py").dag.task_ids) == ["ingest", "verify"]


@pytest.mark.filterwarnings("default")
def test_the_dagster_example_ingests_a_month(here: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dagster = pytest.importorskip("dagster", reason="Dagster is not installed")
    monkeypatch.setenv("STREAMFLOW_DATA_DIR", str(months))
    load_settings.cache_clear()
    module = load("docs/orchestrators/dagster_assets.py")
    result = dagster.materialize([module.published_month, module.history_is_sound], partition_key="000")
    assert result.success
    assert here.value("select count(*) from ops.loads where state = 'published'") == 1
