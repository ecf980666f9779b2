"""The Python functions; the Prefect flow and the examples for Airflow and Dagster, if those are installed."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loader import api
from loader.pipeline import dbt
from loader.pipeline.progress import log
from loader.settings import load_settings
from tests.conftest import REPOSITORY, TABLES, Streamflow, parsed_once
from tests.files import copy_month, set_value

WRONG = "maybe-of-a-customer"


def load(path: str) -> Any:
    """Import a Python file of the repository that is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[Path(path).stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def here(streamflow: Streamflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Streamflow]:
    """Have the settings of this process name the empty database."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name, value in streamflow.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dbt, "parse", parsed_once)
    load_settings.cache_clear()
    yield streamflow
    load_settings.cache_clear()


def test_the_functions_do_what_the_commands_do(
    here: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("STREAMFLOW_REPORT")
    home = Path(here.environment["STREAMFLOW_HOME"])
    home.mkdir(parents=True)
    (home / "reports").write_text("a file where the folder should be")
    environment = dict(os.environ)
    assert api.verify() == []
    assert api.check_month(0, months).state == "checked"
    assert dict(os.environ) == environment, "the next one may be of another database"
    monkeypatch.setenv("STREAMFLOW_FIRST_MONTH", "2023-12")
    assert api.last_month(dt.date(2024, 3, 5)) == "002", "what was set before does not count"
    monkeypatch.delenv("STREAMFLOW_FIRST_MONTH")
    assert api.last_month(dt.date(2024, 3, 5)) == "001"
    assert api.abandon_month("000").tables == []
    assert api.migrate().changes == []
    monkeypatch.setattr(log, "propagate", True)
    with pytest.raises(api.ModelsFailed, match=r"month 000 published.*report of month 000: .*: File exists"):
        api.ingest_month("000", months)
    (home / "reports").unlink()
    assert api.ingest_month(0, str(months)).state == "unchanged"
    verdicts = api.verify()
    assert len(verdicts) == 2 * len(TABLES) + 1, "and the ledger"
    assert all(verdict.sound for verdict in verdicts)


@pytest.mark.long
def test_one_thread_waits_for_another(here: Streamflow, months: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda _: api.check_month(0, months), range(2)))
    assert [outcome.state for outcome in outcomes] == ["checked", "checked"]


def test_the_steps_are_in_the_log_and_nowhere_else(
    here: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(log, "handlers", [logging.NullHandler()])
    monkeypatch.setattr(log, "propagate", True)  # an earlier command in this process has switched it off
    caplog.set_level(logging.INFO, "streamflow")
    api.check_month(0, months)
    assert [message.split(":")[0] for message in caplog.messages if " s" in message] == [
        "landing",
        "audits",
        "references",
    ]
    assert capsys.readouterr() == ("", "")


def test_refused_data_is_an_exception_with_its_rejects(here: Streamflow, bad_months: Path) -> None:
    with pytest.raises(api.Refused, match="refused") as caught:
        api.ingest_month("000", bad_months)
    assert caught.value.exit_code == 1
    assert caught.value.rejects.count == 1


def test_no_database_is_an_exception_that_may_be_tried_again(here: Streamflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "1")
    load_settings.cache_clear()
    with pytest.raises(api.SurroundingsFailed):
        api.verify()


@pytest.mark.parametrize(
    ("month", "more"),
    [("x", {}), ("000", {"restate": " "}), ("000", {"waive": {"audit_usage_skips_not_negative": " "}})],
)
def test_wrong_usage_is_an_exception(month: str, more: dict[str, Any]) -> None:
    with pytest.raises(api.WrongUsage):
        api.ingest_month(month, **more)


class Attempts(list[str]):
    """The outcome of each attempt that an orchestrator made: a state, or the exception's name.

    The server is unreachable until the first attempt has failed: POSTGRES_HOST is a folder that does not exist yet.
    """

    def __init__(self, module: Any, here: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._ingest, self._socket = module.ingest_month, tmp_path / "socket"
        self._server = here.environment["POSTGRES_HOST"]
        monkeypatch.setenv("POSTGRES_HOST", str(self._socket))
        load_settings.cache_clear()
        monkeypatch.setattr(module, "ingest_month", self._attempt)

    def server_is_there(self) -> None:
        """Make the server reachable from now on."""
        self._socket.symlink_to(self._server)

    def _attempt(self, *arguments: Any) -> api.Outcome:
        try:
            outcome: api.Outcome = self._ingest(*arguments)
        except api.StreamflowError as error:
            self.append(type(error).__name__)
            if not self._socket.exists():
                self.server_is_there()
            raise
        self.append(outcome.state)
        return outcome


@pytest.fixture
def bad_months(months: Path, tmp_path: Path) -> Path:
    """A folder with month 000 of which one value is wrong."""
    folder = tmp_path / "bad"
    set_value(copy_month(months, "000", folder) / "labels.csv", 2, "churn_label", WRONG)
    return folder


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    """A Prefect server for these tests."""
    pytest.importorskip("prefect", reason="Prefect is not installed")
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness():
        yield


@pytest.fixture
def prefect_flow(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the flow, which retries an ingest without a pause."""
    module = load("orchestration/prefect_flow.py")
    monkeypatch.setattr(module, "ingest", module.ingest.with_options(retry_delay_seconds=0))
    return module


@pytest.mark.filterwarnings("default")
def test_the_prefect_flow_tries_again_when_the_server_was_unreachable(
    here: Streamflow, months: Path, prefect_flow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts(prefect_flow, here, tmp_path, monkeypatch)
    assert prefect_flow.month_flow("000", str(months)).state == "published"
    assert attempts == ["SurroundingsFailed", "published"]
    assert here.rows("select month, state from ops.loads") == [("000", "published")]


@pytest.mark.filterwarnings("default")
def test_the_prefect_flow_gives_up_on_a_server_that_stays_away(
    here: Streamflow, months: Path, prefect_flow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts(prefect_flow, here, tmp_path, monkeypatch)
    attempts.server_is_there()
    monkeypatch.setenv("POSTGRES_USER", "nobody")  # an unknown role: unlike an unreachable server, not waited for
    load_settings.cache_clear()
    with pytest.raises(api.SurroundingsFailed):
        prefect_flow.month_flow("000", str(months))
    assert attempts == ["SurroundingsFailed"] * 4


@pytest.mark.filterwarnings("default")
def test_the_prefect_flow_does_not_try_a_refused_month_again(
    here: Streamflow, bad_months: Path, prefect_flow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    attempts = Attempts(prefect_flow, here, tmp_path, monkeypatch)
    attempts.server_is_there()
    with pytest.raises(api.Refused):
        prefect_flow.month_flow("000", str(bad_months))
    assert attempts == ["Refused"]
    assert here.rows("select state from ops.loads") == [("refused",)]
    assert "month 000 refused: " in caplog.text
    assert str(Path("rejects", "month_000.csv")) in caplog.text
    assert WRONG not in caplog.text


@pytest.mark.filterwarnings("default")
def test_the_prefect_flow_takes_the_month_that_is_over(prefect_flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, None]] = []
    monkeypatch.setattr(prefect_flow, "ingest", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(prefect_flow, "prove", lambda: 0)
    days = [dt.datetime.now(dt.timezone.utc).date()]
    prefect_flow.month_flow()
    days.append(dt.datetime.now(dt.timezone.utc).date())
    assert len(asked) == 1
    assert asked[0] in [(api.last_month(day), None) for day in days]


AIRFLOW_RUN = """
import json, sys
from datetime import datetime, timedelta, timezone
sys.path.insert(0, sys.argv[1])
from airflow_dag import dag
for task in dag.tasks:
    task.retry_delay = timedelta(0)
run = dag.test(logical_date=datetime(2024, 2, 1, tzinfo=timezone.utc))
print(json.dumps({task.task_id: [task.state, task.try_number] for task in run.get_task_instances()}))
"""

PROGRAM = """#!/bin/sh
echo "$@" >> "{calls}"
[ -e "{there}" ] || {{ : > "{there}"; {first}; }}
exec "{python}" -c "from loader.cli.main import main; raise SystemExit(main())" "$@"
"""
"""The command line. Its first call does what `first` says unless the file `there` exists."""


def run_dag(here: Streamflow, months: Path, folder: Path, first: str = "") -> tuple[dict[str, Any], list[str]]:
    """Run the DAG as of 2024-02-01. Returns each task's state and number of tries, and the commands that were run."""
    calls, there, program, dags = folder / "calls", folder / "there", folder / "streamflow", folder / "airflow" / "dags"
    dags.mkdir(parents=True)
    shutil.copy(REPOSITORY / "docs" / "orchestrators" / "airflow_dag.py", dags)
    program.write_text(PROGRAM.format(calls=calls, there=there, python=sys.executable, first=first))
    program.chmod(0o755)
    if not first:
        there.touch()
    environment = {
        **os.environ, **here.environment, "AIRFLOW_HOME": str(dags.parent), "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "STREAMFLOW_BIN": str(program), "STREAMFLOW_DATA_DIR": str(months), "PYTHONPATH": str(REPOSITORY),
    }  # fmt: skip
    for command in (["-m", "airflow", "db", "migrate"], ["-c", AIRFLOW_RUN, str(dags)]):
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), calls.read_text().splitlines()


@pytest.mark.parametrize("first", ["export POSTGRES_HOST=/nowhere", "kill -9 $$"])
def test_the_airflow_dag_tries_again_when_the_server_was_unreachable_or_the_command_was_killed(
    here: Streamflow, months: Path, tmp_path: Path, first: str
) -> None:
    pytest.importorskip("airflow", reason="Airflow is not installed")
    tasks, calls = run_dag(here, months, tmp_path, first)
    assert calls == ["ingest 2024-01", "ingest 2024-01", "verify"]
    assert tasks == {"ingest": ["success", 2], "verify": ["success", 1]}
    assert here.rows("select month, state from ops.loads") == [("000", "published")]


def test_the_airflow_dag_does_not_try_a_refused_month_again(here: Streamflow, bad_months: Path, tmp_path: Path) -> None:
    pytest.importorskip("airflow", reason="Airflow is not installed")
    tasks, calls = run_dag(here, bad_months, tmp_path)
    assert calls == ["ingest 2024-01"]
    assert tasks == {"ingest": ["failed", 1], "verify": ["upstream_failed", 0]}
    assert here.rows("select month, state from ops.loads") == [("000", "refused")]


@pytest.fixture
def dagster_assets(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the assets, which are retried without a pause."""
    pytest.importorskip("dagster", reason="Dagster is not installed")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    module = load("docs/orchestrators/dagster_assets.py")
    monkeypatch.setattr(module, "SECONDS_BETWEEN_TRIES", 0)
    return module


def materialize(module: Any, months: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Materialize January, and run the check."""
    import dagster

    monkeypatch.setenv("STREAMFLOW_DATA_DIR", str(months))
    load_settings.cache_clear()
    assets = [module.published_month, module.history_is_sound]
    return dagster.materialize(assets, partition_key="2024-01-01", raise_on_error=False)


@pytest.mark.filterwarnings("default")
def test_the_dagster_asset_is_tried_again_when_the_server_was_unreachable(
    here: Streamflow, months: Path, dagster_assets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts(dagster_assets, here, tmp_path, monkeypatch)
    result = materialize(dagster_assets, months, monkeypatch)
    assert result.success
    assert attempts == ["SurroundingsFailed", "published"]
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    assert here.rows("select month, state from ops.loads") == [("000", "published")]


@pytest.mark.filterwarnings("default")
def test_the_dagster_asset_is_not_tried_again_when_its_month_is_refused(
    here: Streamflow, bad_months: Path, dagster_assets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts(dagster_assets, here, tmp_path, monkeypatch)
    attempts.server_is_there()
    result = materialize(dagster_assets, bad_months, monkeypatch)
    assert not result.success
    assert attempts == ["Refused"]
    failure = result.failure_data_for_node("published_month").user_failure_data
    assert "month 000 refused: " in failure.description
    assert WRONG not in failure.description


@pytest.mark.filterwarnings("default")
def test_the_dagster_schedule_asks_for_the_month_that_is_over(dagster_assets: Any) -> None:
    import dagster

    schedule = dagster_assets.defs.resolve_schedule_def("monthly_schedule")
    assert schedule.cron_schedule == "0 6 2 * *"
    second_of_march = dagster.build_schedule_context(
        scheduled_execution_time=dt.datetime(2024, 3, 2, 6, tzinfo=dt.timezone.utc)
    )
    [request] = schedule.evaluate_tick(second_of_march).run_requests
    assert request.partition_key == "2024-02-01"
