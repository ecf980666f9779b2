"""A month from its files to its tables: land, dbt build, close the entry in the ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from loader.contract.models import require_models
from loader.contract.tables import load_contract
from loader.database import nodes_failed, pending_nodes, retries
from loader.delivery import Delivery
from loader.delivery.remote import arrived
from loader.delivery.waiting import wait_for
from loader.errors import SurroundingsFailed
from loader.pipeline import notify
from loader.pipeline.dbt import Dbt
from loader.pipeline.outcome import Command, Outcome
from loader.pipeline.progress import Progress
from loader.pipeline.run import Run
from loader.settings import Settings


def run_month(
    settings: Settings,
    command: Command,
    delivery: Delivery,
    progress: Progress,
    *,
    force: bool = False,
    restate: str | None = None,
    waive: Mapping[str, str] | None = None,
    wait: float = 0,
    dbt: Dbt | None = None,
) -> Outcome:
    """Ingest, land or check one month, and have the command of STREAMFLOW_NOTIFY know how that ended.

    Args:
        force: audit and build again even where nothing is new.
        restate: the reason why a published month is to be replaced by other rows.
        waive: the audits that are to warn only, each with the reason.
        wait: for how many seconds to wait for a month that is not there yet.
        dbt: as another month's run has left it, so that it need not be started anew.

    Returns:
        How it ended. The month is published also where `failed` has models and tests that are built on it.

    Raises:
        NotDelivered: the month is not there yet.
        Refused: the data is not taken; nothing but the ledger has changed.
        SurroundingsFailed: the database or dbt failed; the month can be ingested again as it is.
        WrongUsage: settings or contract cannot be used, or an audit cannot be waived.
    """

    dbt, tables = dbt or Dbt(settings), load_contract()
    require_models(tables)
    progress.month(delivery.label)

    def attempt() -> Outcome:
        with contextlib.ExitStack() as stack:
            here = stack.enter_context(arrived(delivery, tables, settings.home, progress.tell))
            run = Run(settings, command, here, tables, progress, dbt)
            stack.enter_context(contextlib.closing(run.connection))
            outcome = run.execute(force=force, restate=restate, waive=waive)
            if command == "ingest" and (nodes := pending_nodes(run.connection)):
                raise SurroundingsFailed(f"{outcome.message}, but readers may see it in part: {nodes_failed(nodes)}")
            return outcome

    try:
        wait_for(delivery, tables, wait, progress.tell)
        outcome = retries.whole_runs(progress.tell)(attempt)
    except Exception as error:
        notify.of_failure(settings, command, delivery, error, progress.tell)
        raise
    notify.of_outcome(settings, outcome, progress.tell)
    return outcome


def run_months(
    settings: Settings,
    command: Command,
    deliveries: Iterable[Delivery],
    progress: Progress,
    *,
    force: bool = False,
    restate: str | None = None,
    waive: Mapping[str, str] | None = None,
    wait: float = 0,
) -> Iterator[Outcome]:
    """Ingest months one after the other, each published before the next begins; dbt is started once for all of them.

    Args and exceptions are those of `run_month`. After one the months before it are published, and none after it was
    tried.
    """
    dbt = Dbt(settings)
    for delivery in deliveries:
        yield run_month(
            settings, command, delivery, progress, force=force, restate=restate, waive=waive, wait=wait, dbt=dbt
        )
