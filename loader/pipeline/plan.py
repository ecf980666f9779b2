"""What ingesting a month would do, found out without changing anything: `ingest --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loader.contract.tables import Table, load_contract
from loader.database import open_database
from loader.delivery import Delivery, Problem
from loader.pipeline import compare, ledger
from loader.pipeline.ledger import TableHistory
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
    """What would be done with a delivery, and what can be said against it before a row is read."""

    month: str
    as_of: str
    folder: str
    action: str
    files: list[PlannedFile]
    problems: list[Problem]


def plan_month(settings: Settings, delivery: Delivery) -> Plan:
    """Look at the files and at the ledger.

    Raises:
        SurroundingsFailed: the database cannot be reached.
    """
    tables = load_contract()
    found = delivery.find(tables)
    files = [PlannedFile(name, file.name, file.size, file.sha256()) for name, file in found.files.items()]
    with open_database(settings).connect() as connection:
        there = ledger.exists(connection)
        known = ledger.history_on(connection, delivery.as_of) if there else {}
        published = there and ledger.publication_of(connection, delivery.as_of) is not None
    action = (
        "refuse" if found.problems else _action(tables, {file.table: file.sha256 for file in files}, known, published)
    )
    return Plan(delivery.label, str(delivery.as_of), str(delivery.folder), action, files, found.problems)


def _action(
    tables: Sequence[Table], hashes: Mapping[str, str], known: Mapping[str, TableHistory], published: bool
) -> str:
    if not known:
        return "land, audit and publish"
    if compare.differing_tables(tables, hashes, known):
        return "compare with what is published, and refuse where a row differs"
    return "nothing: published already" if published else "finish what was begun"
