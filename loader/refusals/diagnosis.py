"""Find everything that is wrong with a file that did not land, with line numbers, in constant memory.

PostgreSQL itself judges the values (pg_input_error_info, from version 16 on), a batch of rows at a time, so a value is
wrong here exactly when it would not land. The rows land with null in place of wrong values, so that the audits can
check the rest of the month and one report lists all problems. Such a load is refused whatever the audits say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.types.json import Json

from loader.contract.tables import Table
from loader.database import POSITION, Connection, Database, is_cluster, statement
from loader.delivery import CHANGED, Delivery, Problem, SourceFile, TableFiles
from loader.delivery.causes import NO_KEY, TOTAL_LINE, encoded_otherwise, of_value, shown
from loader.delivery.csv_contract import is_total
from loader.delivery.records import NUL, Broken, Record, read_records
from loader.landing import new_staging_table, take_out
from loader.words import NOT_TEXT

BATCH = 5_000
BATCH_SIZE = 1 << 22
"""Limits of a batch, in rows and in characters."""

KINDS = {"numeric": "a number", "boolean": "true or false", "date": "a date like 2024-01-31"}
ENDLESS = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)
OUT_OF_RANGE = {"22003", "22008"}


class Unread(Problem):
    """Why a file was not read to its end."""


@dataclass
class Row:
    """A record on its way into staging: its line in the file, its values (none for a line of totals), its problems."""

    line: int
    values: list[str | None]
    problems: list[Problem]


def diagnose(
    database: Database, delivery: Delivery, table: Table, files: TableFiles, stopped: Problem, load_id: int
) -> Iterator[Problem]:
    """Yield all problems of a table's files in file order, and land the rows with null in place of wrong values.

    Args:
        stopped: the problem that stopped the landing; yielded if none is found, as COPY may read CSV differently.
    """
    found, place, position = False, 0, sql.Identifier(POSITION)
    with (
        database.connect() as judge,
        database.connect() as lander,
        new_staging_table(lander, table, delivery, load_id) as staging,
    ):
        spread = is_cluster(lander)
        lander.execute(sql.SQL("alter table {} add column if not exists {} bigint").format(staging, position))
        for file in files.parts:
            key = file.columns.index(table.key_in(file.columns))
            names = sql.SQL(", ").join([*map(sql.Identifier, table.declared(file.columns)), position])
            with lander.cursor().copy(sql.SQL("copy {} ({}) from stdin").format(staging, names)) as copy:
                try:
                    for row in _rows(judge, table, file):
                        place += 1
                        if row.values and (row.values[key] is not None or not spread):
                            copy.write_row([*row.values, place])
                        elif row.values and not any(p.column in {file.columns[key], None} for p in row.problems):
                            # Citus: the key decides which node takes a row, so this row cannot land
                            empty = Problem(file.name, "is empty", row.line, file.columns[key], remedy=NO_KEY)
                            row.problems.append(empty)
                        found = found or bool(row.problems)
                        yield from row.problems
                except Broken as error:
                    found = True
                    yield Unread(file.name, f"{error}. What follows was not read", error.line)
        take_out(lander, staging, table)
    if not found:
        yield stopped


def _rows(connection: Connection, table: Table, file: SourceFile) -> Iterator[Row]:
    """The rows of a file, each with all its problems. Broken if the file cannot be read to its end."""
    kinds = [table.column(name).data_type for name in file.columns]
    records = read_records(file)
    header = next(records, None)
    if header is None or tuple(header.fields) != file.columns:
        raise Broken(1, CHANGED)
    for batch in _batches(records):
        rows = [_row(file, record, header, kinds, table.key_in(file.columns)) for record in batch]
        wrong = _wrong_values(connection, rows, kinds)
        for row in rows:
            for place, value in enumerate(row.values if wrong else ()):
                if value is not None and (reason := wrong.get((kinds[place], value))):
                    cause, remedy = of_value(kinds[place], value) or (None, None)
                    why = ": ".join(filter(None, [reason, cause]))
                    row.problems.append(
                        Problem(file.name, why, row.line, file.columns[place], shown(value), remedy=remedy)
                    )
                    row.values[place] = None
            yield row


def _wrong_values(connection: Connection, rows: Sequence[Row], kinds: Sequence[str]) -> dict[tuple[str, str], str]:
    """Data type and text of each value that would not land -> why. Each distinct value is judged once per batch."""
    typed = ((kind, value) for row in rows for kind, value in zip(kinds, row.values, strict=False) if kind != "text")
    asked = Json(sorted({(kind, value) for kind, value in typed if value is not None}))  # grouped by type
    found = connection.execute(statement(__file__, "wrong_values"), [asked])
    return {(kind, text): _why_wrong(kind, text, code) for kind, text, code in found}


def _why_wrong(kind: str, text: str, code: str | None) -> str:
    if ENDLESS.fullmatch(text):
        return "NaN and infinity are not values"
    if code in OUT_OF_RANGE and (kind != "date" or re.fullmatch(r"\d{4}-\d{2}-\d{2}", text)):
        return f"out of range for {kind}"
    return f"not {KINDS.get(kind, 'a whole number')} ({kind})"


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Batches of records, limited in number and total length to bound memory."""
    batch, size = list[Record](), 0
    try:
        for record in records:
            batch.append(record)
            size += len(record.text)
            if len(batch) >= BATCH or size > BATCH_SIZE:
                yield batch
                batch, size = [], 0
    except Broken:
        yield batch
        raise
    yield batch


def _row(file: SourceFile, record: Record, header: Record, kinds: Sequence[str], key: str) -> Row:
    """A record as a row, padded with nulls. NUL and bytes not in the encoding are escaped in texts, null elsewhere."""
    columns, form, nulls = file.columns, file.form, {"", *file.form.nulls}
    if is_total(record.fields, columns.index(key), form.nulls):
        name = shown(record.fields[columns.index(key)])
        return Row(record.line, [], [Problem(file.name, TOTAL_LINE[0], record.line, key, name, remedy=TOTAL_LINE[1])])
    problems = [Problem(file.name, reason, record.line) for reason in record.wrong_form(header)]
    fields = [] if record.is_end_of_data else record.fields[: len(columns)]
    values: list[str | None] = [None if field in nulls else field for field in fields]
    values += [None] * (len(columns) - len(fields))
    for place, value in enumerate(values if NOT_TEXT.search(record.text) else ()):
        if value is not None and NOT_TEXT.search(value):
            what, remedy = encoded_otherwise(form) if NUL not in value else ("holds a NUL byte", None)
            problems.append(Problem(file.name, what, record.line, columns[place], shown(value), remedy=remedy))
            values[place] = shown(value) if kinds[place] == "text" else None
    return Row(record.line, values, problems)
