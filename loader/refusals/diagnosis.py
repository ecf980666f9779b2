"""What is wrong with a file that COPY did not take: all of it, each with its line, in constant memory.

PostgreSQL itself judges every value (pg_input_error_info, from version 16 on), a batch of rows at a time, so a value is
wrong here exactly when COPY would stop at it. The rows land with null in place of what is wrong, so that the audits can
look at the rest of the month and everything is reported in one go; such a load is refused whatever they say.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.types.json import Json

from loader.contract.tables import Table
from loader.database import POSITION, Connection, Database, is_cluster, statement
from loader.delivery import CHANGED, Delivery, Problem, SourceFile, TableFiles
from loader.delivery.csv_contract import is_total
from loader.landing import NotTaken, new_staging_table, take_out
from loader.refusals.causes import NO_KEY, SHOWN, TOTAL_LINE, encoded_otherwise, of_value
from loader.refusals.records import NUL, Broken, Record, read_records
from loader.words import NOT_TEXT

BATCH = 5_000
BATCH_SIZE = 1 << 22
"""Rows, and characters, that are judged at a time."""

KINDS = {"numeric": "a number", "boolean": "true or false", "date": "a date like 2024-01-31"}
ENDLESS = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)
OUT_OF_RANGE = {"22003", "22008"}

Value = tuple[str, str]
"""A data type, and a text that should be of it."""


@dataclass
class Row:
    """A record on its way into staging: its line in the file, its values, and what is wrong; no values if of totals."""

    line: int
    values: list[str | None] | None
    problems: list[Problem]


def diagnose(
    database: Database, delivery: Delivery, table: Table, files: TableFiles, stopped: NotTaken, unread: list[Problem]
) -> Iterator[Problem]:
    """Yield all that is wrong with a table's files, in their order, and land the rows, null in place of what is wrong.

    Args:
        stopped: what COPY said; it is passed on where nothing is found, since what CSV is can be seen in two ways.
        unread: gets those of the problems that kept a file from being read to its end.
    """
    found, place, position = False, 0, sql.Identifier(POSITION)
    with (
        database.connect() as judge,
        database.connect() as lander,
        new_staging_table(lander, table, delivery) as staging,
    ):
        spread = is_cluster(lander)
        lander.execute(sql.SQL("alter table {} add column if not exists {} bigint").format(staging, position))
        for file in files.parts:
            key = file.columns.index(table.key_in(file.columns))
            names = sql.SQL(", ").join([*map(sql.Identifier, table.declared(file.columns)), position])
            with lander.cursor().copy(sql.SQL("copy {} ({}) from stdin").format(staging, names)) as copy:
                for row in _rows(judge, table, file, unread):
                    place += 1
                    if row.values and spread and row.values[key] is None:  # Citus: the key says which node takes it
                        if not any(problem.column in {file.columns[key], None} for problem in row.problems):
                            problem = Problem(file.name, "is empty", row.line, file.columns[key], remedy=NO_KEY)
                            row.problems.append(problem)
                    elif row.values:
                        copy.write_row([*row.values, place])
                    found = found or bool(row.problems)
                    yield from row.problems
        take_out(lander, staging, table)
    yield from unread
    if not found and not unread:
        yield stopped.problem


def _rows(connection: Connection, table: Table, file: SourceFile, unread: list[Problem]) -> Iterator[Row]:
    """The rows of a file with all that is wrong with each. Why reading ended before the file did goes to `unread`."""
    kinds = [table.column(name).data_type for name in file.columns]
    records, header = read_records(file), None
    with contextlib.suppress(Broken):
        header = next(records, None)
    if header is None or tuple(header.fields) != file.columns:
        unread.append(Problem(file.name, CHANGED))
        return
    for batch in _batches(records, file.name, unread):
        rows = [_row(file.name, record, header, kinds, table.key_in(file.columns)) for record in batch]
        wrong = _wrong_values(connection, [value for row in rows for value in _typed(row, kinds)])
        for row in rows:
            values = row.values or []
            for place, value in enumerate(values if wrong else ()):
                if value is not None and (reason := wrong.get((kinds[place], value))):
                    cause, remedy = of_value(kinds[place], value) or (None, None)
                    why = f"{reason}: {cause}" if cause else reason
                    column = header.fields[place]
                    row.problems.append(Problem(file.name, why, row.line, column, _shown(value), remedy=remedy))
                    values[place] = None
            yield row


def _typed(row: Row, kinds: Sequence[str]) -> Iterator[Value]:
    for kind, value in zip(kinds, row.values or (), strict=False):
        if kind != "text" and value is not None:
            yield kind, value


def _wrong_values(connection: Connection, values: Iterable[Value]) -> dict[Value, str]:
    """Those of the values that PostgreSQL would not read -> why. Each is asked about once, however often it comes."""
    asked = Json(sorted(set(values)))  # a type after the other, as the server looks each up when it changes
    found = connection.execute(statement(__file__, "wrong_values"), [asked])
    return {(kind, text): _why_wrong(kind, text, code) for kind, text, code in found}


def _why_wrong(kind: str, text: str, code: str | None) -> str:
    if ENDLESS.fullmatch(text):
        return "NaN and infinity are not values"
    if code in OUT_OF_RANGE and (kind != "date" or re.fullmatch(r"\d{4}-\d{2}-\d{2}", text)):
        return f"out of range for {kind}"
    return f"not {KINDS.get(kind, 'a whole number')} ({kind})"


def _batches(records: Iterator[Record], file: str, unread: list[Problem]) -> Iterator[list[Record]]:
    """The records a batch at a time, so that neither many nor long ones are in memory at once."""
    batch, size = list[Record](), 0
    try:
        for record in records:
            batch.append(record)
            size += len(record.text)
            if len(batch) >= BATCH or size > BATCH_SIZE:
                yield batch
                batch, size = [], 0
    except Broken as error:
        unread.append(Problem(file, f"{error}. What follows was not read", error.line))
    yield batch


def _row(file: str, record: Record, header: Record, kinds: Sequence[str], key: str) -> Row:
    """A record as a row, filled up where fields are missing. What is not UTF-8 is escaped in texts, null elsewhere."""
    columns, form = header.fields, record.form
    if is_total(record.fields, columns.index(key), form.nulls):
        what, remedy = TOTAL_LINE
        shown = _shown(record.fields[columns.index(key)])
        return Row(record.line, None, [Problem(file, what, record.line, key, shown, remedy=remedy)])
    problems = [Problem(file, reason, record.line) for reason in record.wrong_form(header)]
    fields = [] if record.is_end_of_data else record.fields[: len(columns)]
    values: list[str | None] = [None if field in form.nulls else field or None for field in fields]
    values += [None] * (len(columns) - len(fields))
    for place, value in enumerate(values if NOT_TEXT.search(record.text) else ()):
        if value is not None and NOT_TEXT.search(value):
            cause = encoded_otherwise(form) if NUL not in value else ("holds a NUL byte", None)
            problems.append(Problem(file, cause[0], record.line, columns[place], _shown(value), remedy=cause[1]))
            values[place] = _shown(value) if kinds[place] == "text" else None
    return Row(record.line, values, problems)


def _shown(value: str) -> str:
    """A value as a report may hold it: not endless, and with escapes for what is not text."""
    text = value.replace(NUL, "\\x00").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
