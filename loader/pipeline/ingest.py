"""A month from its files to its tables: land, dbt build, close the entry in the ledger."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator

from loader.contract.model_check import require_models
from loader.contract.tables import load_contract
from loader.database import node_failure, retries
from loader.delivery import Delivery
from loader.delivery.remote import fetched
from loader.delivery.waiting import wait_for
from loader.errors import SurroundingsFailed
from loader.pipeline import notify
from loader.pipeline.dbt import Dbt
from loader.pipeline.outcome import Outcome, Request
from loader.pipeline.progress import Progress
from loader.pipeline.run import Run
from loader.settings import Settings


def run_months(
    settings: Settings,
    request: Request,
    deliveries: Iterable[Delivery],
    progress: Progress,
    then: Callable[[Outcome], None],
) -> Iterator[Outcome]:
    """Ingest, land or check months one after another; each ends before the next begins.

    The STREAMFLOW_NOTIFY command is told how each month ended. dbt parses the project once for all months. An exception
    ends the sequence: the months before it are published, and those after it are not tried.

    Args:
        then: called with the outcome of each month before the STREAMFLOW_NOTIFY command is told of it.

    Yields:
        The outcome of each month. The month is published even if `failed` lists models and tests built on it.

    Raises:
        NotDelivered: a month is not there yet.
        Refused: the data is refused; nothing of it is published.
        SurroundingsFailed: the database or dbt failed; the month can be ingested again as it is.
        WrongUsage: settings or contract cannot be used, or an audit cannot be waived.
    """
    dbt = Dbt(settings)
    for delivery in deliveries:
        gc.collect(0)  # frees what the month before left: the command line disables automatic collection
        yield _run_month(dbt, request, delivery, progress, then)


def _run_month(
    dbt: Dbt, request: Request, delivery: Delivery, progress: Progress, then: Callable[[Outcome], None]
) -> Outcome:
    settings, tables = dbt.settings, load_contract()
    require_models(tables)
    progress.month(delivery.label)

    def attempt() -> Outcome:
        with fetched(delivery, tables, settings.home, progress.tell) as here:
            with retries.reporting_lost(delivery.label, was_there=settings.embedded):  # Run starts the embedded server
                run = Run(dbt, request, here, tables, progress)
            with contextlib.closing(run.connection), retries.reporting_lost(delivery.label, was_there=True):
                outcome = run.execute()
                if request.command == "ingest" and (failure := node_failure(run.connection)):
                    raise SurroundingsFailed(f"{outcome.message}, but readers may see it in part: {failure}")
                return outcome

    try:
        wait_for(delivery, tables, request.wait, progress.tell)
        outcome = retries.retrying_runs(progress.tell)(attempt)
    except Exception as error:
        notify.tell_of(settings, request.command, delivery, error, progress.tell)
        raise
    try:
        then(outcome)
    finally:
        notify.tell_of(settings, request.command, delivery, outcome, progress.tell)
    return outcome
