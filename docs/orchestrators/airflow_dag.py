"""streamflow in Airflow: a monthly DAG. Copy it to the DAGs folder; streamflow has a virtual environment of its own."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow import DAG

try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:  # Airflow 2
    from airflow.operators.bash import BashOperator

STREAMFLOW = os.environ.get("STREAMFLOW_BIN", "streamflow")
# The month that the run's interval covers, counted from 2024-01: the same as STREAMFLOW_FIRST_MONTH.
MONTH = "{{ '%03d' % ((data_interval_start.year - 2024) * 12 + data_interval_start.month - 1) }}"


with DAG(
    "streamflow",
    schedule="@monthly",
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=True,
    max_active_runs=1,
    default_args={"retry_delay": timedelta(minutes=5)},
) as dag:
    # No retries: a shell cannot tell Airflow that a refusal is final. The command itself waits out a lost connection.
    ingest = BashOperator(task_id="ingest", bash_command=f"{STREAMFLOW} ingest {MONTH}", retries=0)
    verify = BashOperator(task_id="verify", bash_command=f"{STREAMFLOW} verify", retries=2)
    ingest >> verify
