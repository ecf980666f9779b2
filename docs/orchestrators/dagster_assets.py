"""streamflow in Dagster: an asset with a partition per month, a check, a schedule: dagster dev -f dagster_assets.py"""

import dagster as dg

from loader.api import Refused, SurroundingsFailed, ingest_month, last_month, verify

SECONDS_BETWEEN_TRIES = 300


@dg.asset(partitions_def=dg.MonthlyPartitionsDefinition(start_date="2024-01-01"), pool="streamflow")
def published_month(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Production and history of a month. Limit the pool `streamflow` to 1: there is one run at a time."""
    try:
        outcome = ingest_month(last_month(context.partition_time_window.end.date()))
    except Refused as error:
        # error.report would show customers' values to whoever may see the run
        raise dg.Failure(str(error), metadata={"rejects": str(error.rejects.path)}, allow_retries=False) from error
    except SurroundingsFailed as error:
        raise dg.RetryRequested(max_retries=3, seconds_to_wait=SECONDS_BETWEEN_TRIES) from error
    rows = sum(count.delivered for count in outcome.counts)
    return dg.MaterializeResult(metadata={"state": outcome.state, "as_of": str(outcome.as_of), "rows": rows})


@dg.asset_check(asset=published_month)
def history_is_sound() -> dg.AssetCheckResult:
    """What `streamflow verify` proves."""
    unsound = [verdict for verdict in verify() if not verdict.sound]
    return dg.AssetCheckResult(passed=not unsound, metadata={"unsound": len(unsound)})


monthly = dg.define_asset_job("monthly", selection=[published_month])
schedule = dg.build_schedule_from_partitioned_job(monthly, day_of_month=2, hour_of_day=6)

defs = dg.Definitions(assets=[published_month], asset_checks=[history_is_sound], schedules=[schedule])
