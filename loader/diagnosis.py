"""What is wrong with a file that COPY did not take: all of it, each with its line, in constant memory.

PostgreSQL itself judges every value (pg_input_error_info, from version 16 on), a batch of rows at a time, so a value is
wrong here exactly when COPY would stop at it. The rows land with null in place of what is wrong, so that the audits can
look at the rest of the month and everything is reported in one go; such a load is refused whatever they say.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from psycopg import sql

from loader.contracts import Table
from loader.database import Connection, Database
from loader.deliveries import SHOWN, Delivery, Problem, unreadable
from loader.files import UNREADABLE, SourceFile
from loader.landing import NotTaken, new_staging_table
from loader.records import NUL, Endless, RawRecord, raw_records
from loader.watch import FIELD

BATCH = 5_000
BATCH_SIZE = 1 << 22
"""Rows, and characters, that are judged at a time."""

KINDS = {
    "numeric": "a number",
    "int": "a whole number",
    "integer": "a whole number",
    "bigint": "a whole number",
    "boolean": "true or false",
    "date": "a date like 2024-01-31",
}
WELL_QUOTED = re.compile(r"{0}(?:,{0})*".format(FIELD.decode()))
NOT_UTF_8 = re.compile("[\udc00-\udcff]")
LINE_ENDS = {"\n": "LF", "\r\n": "CRLF", "\r": "CR alone"}
ENDLESS = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)
ISO_DATE = r"\d{4}-\d{2}-\d{2}"
OUT_OF_RANGE = {"22003", "22008"}


@dataclass
class Record:
    """One record of the file: the line it begins on, its fields, what is wrong with it, and whether reading went on."""

    line: int
    fields: list[str | None]
    problems: list[Problem]
    followed: bool = True
    size: int = 0


def diagnose(
    database: Database, delivery: Delivery, table: Table, file: SourceFile, stopped: NotTaken
) -> Generator[Problem, None, bool]:
    """Yield all that is wrong with a file, in its order, and land its rows with null in place of what is wrong.

    Args:
        stopped: what COPY said; it is passed on where nothing is found, since what CSV is can be seen in two ways.

    Returns:
        Whether the file could be read to its end.
    """
    read_whole, found = True, False
    columns = file.header()
    copied = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier("staging", table.name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with (
        database.connect() as judge,
        database.connect() as lander,
        new_staging_table(lander, table, delivery),
        lander.cursor().copy(copied) as copy,
    ):
        for batch in _batches(_records(file, table, columns)):
            _judge(judge, file.name, table, columns, batch)
            for record in batch:
                copy.write_row(record.fields)
                yield from record.problems
                found |= bool(record.problems)
                read_whole &= record.followed
    if not found:
        yield stopped.problem
    return read_whole


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    """The records a batch at a time, so that neither many rows nor long ones are in memory at once."""
    batch, size = list[Record](), 0
    for record in records:
        batch.append(record)
        size += record.size
        if len(batch) >= BATCH or size > BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _records(file: SourceFile, table: Table, columns: list[str]) -> Iterator[Record]:
    """The file's records, checked for everything but the values' types."""
    texts = {position for position, name in enumerate(columns) if table.column(name).data_type == "text"}
    line = 1
    try:
        records = raw_records(file)
        end = next(records).end
        for raw in records:
            line = raw.line
            yield _record(file.name, raw, end, columns, texts)
    except Endless as error:
        yield _last(columns, Problem(file.name, f"{error}. What follows was not read", error.line))
    except UNREADABLE as error:
        yield _last(columns, Problem(file.name, unreadable(error), line))


def _last(columns: list[str], problem: Problem) -> Record:
    return Record(problem.line or 0, [None] * len(columns), [problem], followed=False)


def _record(file: str, raw: RawRecord, end: str, columns: list[str], texts: set[int]) -> Record:
    """A record whose lines should end as the header's does."""
    fields = raw.fields or [""] * (len(columns) == 1)  # PostgreSQL, too, takes an empty line for one empty field
    problems = [Problem(file, reason, raw.line) for reason in _wrong_form(raw, fields, end, len(columns))]
    if raw.text == f"\\.{raw.end}":
        fields = []
    kept: list[str | None] = [field or None for field in fields[: len(columns)]]
    kept += [None] * (len(columns) - len(kept))
    for position, field in enumerate(kept):
        if field is not None and NOT_UTF_8.search(field):
            reason = "holds a NUL byte" if NUL in field else "is not UTF-8"
            problems.append(Problem(file, reason, raw.line, columns[position], _shown(field)))
            kept[position] = _shown(field) if position in texts else None
    return Record(raw.line, kept, problems, size=len(raw.text))


def _wrong_form(raw: RawRecord, fields: list[str], end: str, columns: int) -> Iterator[str]:
    """What is wrong with a record whatever its values are."""
    if raw.text == f"\\.{raw.end}":
        yield "a line \\. may not be there: PostgreSQL may take it for the end of the file"
    elif len(fields) != columns:
        counted = "an empty line" if not fields else f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
        yield f"{counted} where the header has {columns}"
    if '"' in raw.text and not WELL_QUOTED.fullmatch(raw.text.removesuffix(raw.end)):
        yield "a quote within a field that is not quoted as a whole, or not doubled in one that is"
    if raw.end not in {end, ""}:
        yield f"ends in {LINE_ENDS[raw.end]} where the header ends in {LINE_ENDS[end]}"


def _judge(connection: Connection, file: str, table: Table, columns: list[str], batch: list[Record]) -> None:
    """Have PostgreSQL look at every value of a batch, and take out those that it would not read."""
    types = [table.column(name).data_type for name in columns]
    places = [
        (number, position, record.fields[position], data_type)
        for number, record in enumerate(batch)
        for position, data_type in enumerate(types)
        if data_type != "text" and record.fields[position] is not None
    ]
    if not places:
        return
    numbers, positions, values, kinds = map(list, zip(*places, strict=True))
    wrong = connection.execute(
        "select number, position, info.sql_error_code"
        " from unnest(%s::int[], %s::int[], %s::text[], %s::text[]) as field (number, position, value, kind),"
        " lateral pg_input_error_info(value, kind) as info"
        " where info.message is not null"
        " or (kind = 'numeric' and value ~* 'nan|inf')"
        " or (kind = 'date' and value !~ %s)",
        [numbers, positions, values, kinds, f"^{ISO_DATE}$"],
    )
    for number, position, code in wrong.fetchall():
        record, value = batch[number], batch[number].fields[position] or ""
        reason = _reason(value, types[position], code)
        record.problems.append(Problem(file, reason, record.line, columns[position], _shown(value)))
        record.fields[position] = None


def _reason(value: str, data_type: str, code: str | None) -> str:
    if ENDLESS.fullmatch(value):
        return "NaN and infinity are not values"
    if code in OUT_OF_RANGE and (data_type != "date" or re.fullmatch(ISO_DATE, value)):
        return f"out of range for {data_type}"
    return f"not {KINDS.get(data_type, 'a value')} ({data_type})"


def _shown(value: str) -> str:
    """A value as a report may hold it: not endless, and with escapes for what is not text."""
    text = value.replace(NUL, "\\x00").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
