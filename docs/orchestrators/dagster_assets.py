"""streamflow in Dagster: one asset, one partition per month, and a check: dagster dev -f dagster_assets.py"""

import dagster as dg

from loader.api import Refused, SurroundingsFailed, ingest_month, verify

months = dg.StaticPartitionsDefinition([f"{month:03d}" for month in range(12)])


@dg.asset(partitions_def=months, pool="streamflow")
def published_month(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Production and history of a month. Limit the pool `streamflow` to 1: there is one run at a time."""
    try:
        outcome = ingest_month(context.partition_key)
    except Refused as error:
        raise dg.Failure(str(error), metadata={"rejects": str(error.rejects)}, allow_retries=False) from error
    except SurroundingsFailed as error:
        raise dg.RetryRequested(max_retries=3, seconds_to_wait=60) from error
    rows = sum(count.delivered for count in outcome.counts)
    return dg.MaterializeResult(metadata={"state": outcome.state, "as_of": str(outcome.as_of), "rows": rows})


@dg.asset_check(asset=published_month)
def history_is_sound() -> dg.AssetCheckResult:
    """What `streamflow verify` proves."""
    unsound = [verdict for verdict in verify() if not verdict.sound]
    return dg.AssetCheckResult(passed=not unsound, metadata={"unsound": len(unsound)})


defs = dg.Definitions(assets=[published_month], asset_checks=[history_is_sound])
