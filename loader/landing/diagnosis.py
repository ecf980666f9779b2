"""What is wrong with a file that COPY did not take: all of it, each with its line, in constant memory.

PostgreSQL itself judges every value (pg_input_error_info, from version 16 on), a batch of rows at a time, so a value is
wrong here exactly when COPY would stop at it. The rows land with null in place of what is wrong, so that the audits can
look at the rest of the month and everything is reported in one go; such a load is refused whatever they say.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.types.json import Json

from loader.contract.tables import Table
from loader.database import POSITION, Connection, Database, is_cluster, statement
from loader.delivery import (
    CHANGED,
    NO_KEY,
    NOT_TEXT,
    NUL,
    SHOWN,
    TOTAL_LINE,
    Broken,
    Delivery,
    Problem,
    Record,
    SourceFile,
    TableFiles,
    encoded_otherwise,
    is_total,
    of_value,
    read_records,
)
from loader.landing.copy import NotTaken, new_staging_table
from loader.landing.forgotten import take_out

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
    """A record on its way into staging: its line in the file, its values, what is wrong, and whether it has totals."""

    line: int
    values: list[str | None]
    problems: list[Problem]
    is_total: bool = False


def diagnose(
    database: Database, delivery: Delivery, table: Table, files: TableFiles, stopped: NotTaken
) -> Generator[Problem, None, bool]:
    """Yield all that is wrong with a table's files, in their order, and land the rows, null in place of what is wrong.

    Args:
        stopped: what COPY said; it is passed on where nothing is found, since what CSV is can be seen in two ways.

    Returns:
        Whether the files could be read to their ends.
    """
    found, last, unread = False, 0, list[Problem]()
    with (
        database.connect() as judge,
        database.connect() as lander,
        new_staging_table(lander, table, delivery) as staging,
    ):
        for file in files.parts:
            rows = _rows(judge, table, file, unread)
            for place, problems in _land(lander, rows, staging, table, file, last):
                yield from problems
                found, last = found or bool(problems), place
        take_out(lander, staging, table)
    yield from unread
    if not found and not unread:
        yield stopped.problem
    return not unread


def _land(
    connection: Connection, rows: Iterator[Row], staging: sql.Identifier, table: Table, file: SourceFile, after: int
) -> Iterator[tuple[int, list[Problem]]]:
    """Land the rows of a file, which come `after` so many others; yields the place of each, and what is wrong with it.

    A line of totals is no row.
    """
    spread = is_cluster(connection)
    add_place = sql.SQL("alter table {} add column if not exists {} bigint").format(staging, sql.Identifier(POSITION))
    names = sql.SQL(", ").join(map(sql.Identifier, [*table.declared(file.columns), POSITION]))
    with connection.cursor() as cursor:
        cursor.execute(add_place)
        with cursor.copy(sql.SQL("copy {} ({}) from stdin").format(staging, names)) as copy:
            for place, row in enumerate(rows, after + 1):
                if not row.is_total and (not spread or _has_key(row, file, table.key_in(file.columns))):
                    copy.write_row([*row.values, place])
                yield place, row.problems


def _has_key(row: Row, file: SourceFile, key: str) -> bool:
    """Whether Citus can take a row: the first column of its key says which node it goes to. Without it, it cannot."""
    has_key = row.values[file.columns.index(key)] is not None
    if not has_key and not any(problem.column in {key, None} for problem in row.problems):
        row.problems.append(Problem(file.name, "is empty", row.line, key, remedy=NO_KEY))
    return has_key


def _rows(connection: Connection, table: Table, file: SourceFile, unread: list[Problem]) -> Iterator[Row]:
    """The rows of a file with all that is wrong with each. Why reading ended before the file did goes to `unread`."""
    kinds = [table.column(name).data_type for name in file.columns]
    typed = [(place, kind) for place, kind in enumerate(kinds) if kind != "text"]
    records, header = read_records(file), None
    with contextlib.suppress(Broken):
        header = next(records, None)
    if header is None or tuple(header.fields) != file.columns:
        unread.append(Problem(file.name, CHANGED))
        return
    for batch in _batches(records, file.name, unread):
        rows = [_row(file.name, record, header, kinds, table.key_in(file.columns)) for record in batch]
        wrong = _wrong_values(
            connection,
            (
                (kind, text)
                for row in rows
                if not row.is_total
                for place, kind in typed
                if (text := row.values[place]) is not None
            ),
        )
        for row in rows:
            for place, kind in typed if wrong and not row.is_total else ():
                text = row.values[place]
                if text is not None and (reason := wrong.get((kind, text))):
                    cause, remedy = of_value(kind, text) or (None, None)
                    why = f"{reason}: {cause}" if cause else reason
                    column = header.fields[place]
                    row.problems.append(Problem(file.name, why, row.line, column, _shown(text), remedy=remedy))
                    row.values[place] = None
            yield row


def _wrong_values(connection: Connection, values: Iterable[Value]) -> dict[Value, str]:
    """Those of the values that PostgreSQL would not read -> why. Each is asked about once, however often it comes."""
    by_kind: dict[str, set[str]] = {}
    for kind, text in values:
        by_kind.setdefault(kind, set()).add(text)
    wrong: dict[Value, str] = {}
    for kind, texts in by_kind.items():
        found = connection.execute(statement(__file__, "wrong_values"), {"texts": Json(list(texts)), "kind": kind})
        wrong |= {(kind, text): _why_wrong(kind, text, code) for text, code in found}
    return wrong


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
        return Row(record.line, [], [Problem(file, what, record.line, key, shown, remedy=remedy)], is_total=True)
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
