"""A small declared table, and how the loader reads a file of it: landing and diagnosis only, without audits."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loader import ledger
from loader.contract.tables import Table
from loader.database import Database, files_at_once, is_cluster, place_in_file
from loader.delivery import Delivery, Problem, files
from loader.landing import land
from loader.refusals import diagnosis

TABLE = Table.model_validate(
    {
        "name": "things",
        "config": {"meta": {"primary_key": "user_id"}},
        "columns": [
            {"name": "user_id", "data_type": "text"},
            {"name": "number", "data_type": "int"},
            {"name": "amount", "data_type": "numeric", "config": {"meta": {"aliases": ["Amount, in EUR"]}}},
            {"name": "flag", "data_type": "boolean"},
            {"name": "day", "data_type": "date", "config": {"meta": {"optional": True}}},
            {"name": "note", "data_type": "text", "config": {"meta": {"optional": True}}},
        ],
    }
)
KINDS = {column.name: column.data_type for column in TABLE.columns}
Row = dict[str, Any]


@dataclass
class Reading:
    """How the loader read a file. `to_the_end`: it was not taken, and diagnosis read all of it."""

    problems: list[Problem]
    rows: list[Row]
    taken: bool = False
    to_the_end: bool = False
    on_citus: bool = False

    @property
    def lines(self) -> set[int | None]:
        """The lines that have a reported problem."""
        return {problem.line for problem in self.problems}


def read(
    database: Database,
    folder: Path,
    data: bytes,
    chunk: int = files.CHUNK,
    table: Table = TABLE,
    name: str = "things.csv",
) -> Reading:
    """Have the loader read `data` as a file of a month, `chunk` bytes at a time."""
    path = folder / "month_000" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    delivery = Delivery(0, folder, dt.date(2024, 1, 31), "2024-01")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "CHUNK", chunk)
        patch.setattr(diagnosis, "BATCH", 3)
        found = delivery.find([table])
        if found.problems:
            return Reading(found.problems, [])
        with database.connect() as connection:
            spread, at_once = is_cluster(connection), files_at_once(connection)
            load_id = ledger.begin(connection, delivery, "land", None, {})
        landing = land(database, delivery, [table], found.files, at_once, load_id)
        if not landing.not_taken:
            rows = staged(database)
            assert landing.files[0].rows == len(rows)
            return Reading([], rows, taken=True, on_citus=spread)
        problems = list(
            diagnosis.diagnose(database, delivery, table, found.files["things"], landing.not_taken["things"], load_id)
        )
        to_the_end = not any(isinstance(problem, diagnosis.Unread) for problem in problems)
        return Reading(problems, staged(database), to_the_end=to_the_end, on_citus=spread)


def staged(database: Database) -> list[Row]:
    """The rows in staging, in the order of the file."""
    query = "select user_id, number, amount::text, flag, day::text, note from staging.things order by "
    with database.connect() as connection:
        rows = connection.execute(query.encode() + place_in_file(connection, "staging.things").encode()).fetchall()
        return [dict(zip(KINDS, row, strict=True)) for row in rows]
