"""`streamflow abandon`: give up a month that was begun and not published, as ingesting another month does."""

from __future__ import annotations

from dataclasses import dataclass

from loader import ledger
from loader.database import Connection, one_row, statement, value
from loader.delivery import Delivery
from loader.errors import FINISH, WrongUsage
from loader.settings import Settings
from loader.upkeep import history


@dataclass(frozen=True)
class Abandoned:
    """The outcome: the month, its date, the tables whose unpublished history was dropped, and a message."""

    month: str
    as_of: str
    tables: list[str]
    message: str


def abandon(settings: Settings, delivery: Delivery) -> Abandoned:
    """Give up what was begun for the delivery's date; what was published stays. Raises what api.abandon_month says."""
    label = delivery.label
    with history.locked(settings) as connection:
        if not ledger.exists(connection):
            raise WrongUsage(f"month {label} was never begun: no month was ever ingested into this database.")
        tables = _begun(connection, delivery)
        connection.execute("select ops.require_settled_cluster()")
        with history.all_or_nothing(connection, f"month {label} is not given up"):
            load_id = ledger.begin(connection, delivery, "abandon", None, {})
            connection.execute("delete from ops.staged where as_of = %s", [delivery.as_of])
            # `dbt build` would audit rows that were refused
            connection.execute("select ops.empty_staging() where not exists (select from ops.staged)")
            connection.execute("select ops.undo_unfinished_loads(%s)", [delivery.as_of])
            ledger.finish(connection, load_id, "abandoned", timings={})
            lags = value(connection, statement(__file__, "lags"))
        stands = ledger.standing(connection, delivery.as_of).load_id is not None
    now = "what was published stands" if stands else "the database is as it was before it was begun"
    but = f", but production has yet to follow: run `{FINISH}`"
    return Abandoned(label, str(delivery.as_of), tables, f"month {label} is given up: {now}{but if lags else ''}")


def _begun(connection: Connection, delivery: Delivery) -> list[str]:
    """The tables with unpublished history; raises WrongUsage if the month cannot be given up."""
    values = {"as_of": delivery.as_of}
    attempts, cut_off, staged, tables, built_upon = one_row(connection, statement(__file__, "begun"), values)
    label, published = delivery.label, ledger.standing(connection, delivery.as_of).load_id
    if published and not staged and not tables and not cut_off:
        raise WrongUsage(
            f"month {label} is published, and history keeps what was published. If its files were wrong, ingest"
            ' corrected ones with --restate --reason "...".'
        )
    if built_upon:
        raise WrongUsage(
            f"{', '.join(built_upon)} was built on month {label}: abandon the later one first, or publish both with"
            f" `{FINISH}`."
        )
    if not attempts:
        raise WrongUsage(f"month {label} (as of {delivery.as_of}) was never begun. `streamflow status` has the others.")
    return list(tables)
