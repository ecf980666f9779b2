"""`ingest --dry-run`: what ingesting a month would do, without a change to the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loader import ledger
from loader.contract.declared import require_unchanged
from loader.contract.model_check import require_models
from loader.contract.tables import load_contract
from loader.database import Connection, open_database
from loader.delivery import Delivery, Problem
from loader.delivery.remote import fetched
from loader.landing import require_same_customers
from loader.pipeline.outcome import Request
from loader.pipeline.progress import log
from loader.settings import Settings


@dataclass(frozen=True)
class PlannedFile:
    """One file that would be landed."""

    table: str
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Plan:
    """What an ingest would do with a delivery, and the problems that show before any row is read."""

    month: str
    as_of: str
    folder: str
    action: str
    files: list[PlannedFile]
    problems: list[Problem]


def plan_month(settings: Settings, request: Request, delivery: Delivery) -> Plan:
    """Find out from the files and the ledger what a request would do.

    Raises:
        SurroundingsFailed: the database cannot be reached, or is of another version.
        WrongUsage: the models or tables differ from the declaration, or the month was published for another date.
    """
    tables = load_contract()
    require_models(tables)
    with open_database(settings).connect() as connection:
        ledger.require_current(connection)
        with fetched(delivery, tables, settings.home, log.info) as here:
            found = here.find(tables, ledger.came_later(connection, [table.name for table in tables], delivery.as_of))
            hashes = found.hashes()
            known = ledger.history_on(connection, delivery.as_of) if ledger.exists(connection) else {}
            told = {} if request.restate else {name: known[name].content for name in known}
            contents = found.contents(hashes, told)
            place = delivery.origin if delivery.address else str(here.there[0])
        files = [PlannedFile(name, found.files[name].name, found.files[name].size, hashes[name]) for name in hashes]
        ledger.require_same_date(connection, delivery)
        require_unchanged(connection, tables)
        require_same_customers(connection, tables)
        action = "refuse" if found.problems else _action(connection, request, delivery, known, contents)
    return Plan(delivery.label, str(delivery.as_of), place, action, files, found.problems)


def _action(
    connection: Connection,
    request: Request,
    delivery: Delivery,
    known: Mapping[str, ledger.TableHistory],
    contents: Mapping[str, str],
) -> str:
    has_ledger, restates = ledger.exists(connection), request.restate is not None
    nothing = ledger.Standing(False, None, None, None, False)
    standing = ledger.standing(connection, delivery.as_of) if has_ledger else nothing
    ledger.require_ingestible(standing, delivery.label, has_history=bool(known), restates=restates)
    differs = any(table in known and known[table].content != content for table, content in contents.items())
    if differs or (restates and any(table.is_outdated for table in known.values())):
        ledger.require_here(standing, delivery.as_of)
        if restates:
            return "land, audit and replace what is published"
        return "compare with what is published, and refuse where a row differs"
    if contents.keys() - known.keys() or request.force:
        return "land, audit and publish"
    if not standing.is_finished:
        return "finish what was begun"
    left = ledger.left_to_build(connection, delivery.as_of)
    return "nothing: published already" if left == [] else "build the models and tests that failed or did not run"
