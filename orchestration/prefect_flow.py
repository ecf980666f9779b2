"""streamflow as a Prefect 3 flow: python orchestration/prefect_flow.py 001, or `serve` for a monthly deployment."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run

from loader.api import Outcome, Refused, StreamflowError, SurroundingsFailed, ingest_month, last_month, verify


class Unsound(StreamflowError):
    """History or production is not what the ledger says."""

    exit_code = 1


def worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    """Whether to retry: only failures of surroundings can pass; refused data and wrong usage fail again each time."""
    return isinstance(state.result(raise_on_failure=False), SurroundingsFailed)


@task(retries=3, retry_delay_seconds=[60, 300, 900], retry_condition_fn=worth_another_try, persist_result=False)
def ingest(month: str, data_dir: str | None = None) -> Outcome:
    """Land, audit and publish the month; if it is refused, the log says where the wrong values are, and shows none."""
    try:
        return ingest_month(month, data_dir)
    except Refused as error:
        get_run_logger().error(f"{error}: {error.rejects.path} has the values")
        raise


@task(retries=3, retry_delay_seconds=60, retry_condition_fn=worth_another_try, persist_result=False)
def prove() -> int:
    """Verify history and production. Returns the number of verdicts; raises Unsound if any is not sound."""
    verdicts = verify()
    if unsound := [
        f"{verdict.table} {verdict.as_of or ''}: {verdict.finding}" for verdict in verdicts if not verdict.sound
    ]:
        raise Unsound("; ".join(unsound))
    return len(verdicts)


@flow(name="streamflow-month", persist_result=False)
def month_flow(month: str | None = None, data_dir: str | None = None) -> Outcome:
    """Ingest a month, then prove that the database is sound. Default: the month before the one it was due in."""
    outcome: Outcome = ingest(month or last_month(flow_run.scheduled_start_time.date()), data_dir)
    prove()
    return outcome


def main() -> int:
    """Run the flow for a month, or serve it; exit codes are those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("month", help="the number of the month, like 001; or `serve`")
    parser.add_argument("--data-dir", type=Path, help="the folder of months")
    parser.add_argument("--cron", help="with `serve`: when to ingest the month that is over, like '0 6 2 * *'")
    arguments = parser.parse_args()
    if arguments.month == "serve":
        month_flow.serve(name="monthly", limit=1, cron=arguments.cron)
        return 0
    try:
        outcome = month_flow(arguments.month, None if arguments.data_dir is None else str(arguments.data_dir))
    except StreamflowError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{outcome.message}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
