"""streamflow in Airflow 3: a monthly DAG, to copy to the DAGs folder. streamflow is installed apart from Airflow."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, CronDataIntervalTimetable, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

STREAMFLOW = os.environ.get("STREAMFLOW_BIN", "streamflow")
FINAL = {1, 2, 4, 5}
"""The exit codes after which somebody must correct something; 3 and those of a kill mend themselves."""
# The month that the run's interval covers, by its date, like 2024-01.
MONTH = "{{ data_interval_start.strftime('%Y-%m') }}"


@task
def streamflow(*arguments: str) -> None:
    """Run the command; Airflow tries it again unless it ended with one of FINAL."""
    code = SubprocessHook().run_command([STREAMFLOW, *arguments]).exit_code
    if code in FINAL:
        raise AirflowFailException(f"streamflow ended with {code}: the log above says why; correct that first")
    if code:
        raise AirflowException(f"streamflow ended with {code}: the log above says why; it is tried again")


with DAG(
    "streamflow",
    # @monthly alone has no interval in Airflow 3: its runs would name the month that begins, not the one that is over.
    schedule=CronDataIntervalTimetable("@monthly", timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=True,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
) as dag:
    ingest = streamflow.override(task_id="ingest")("ingest", MONTH)
    verify = streamflow.override(task_id="verify")("verify")
    ingest >> verify
