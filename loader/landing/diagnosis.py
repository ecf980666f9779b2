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

from loader.contract.tables import Table
from loader.database.connect import Database
from loader.database.nodes import POSITION, is_cluster
from loader.delivery.csv_contract import FIELD
from loader.delivery.deliveries import SHOWN, Delivery, Problem, unreadable
from loader.delivery.files import UNREADABLE, SourceFile
from loader.delivery.records import NUL, Endless, RawRecord, raw_records
from loader.landing.copy import NotTaken, new_staging_table
from loader.landing.values import Verdicts

BATCH = 5_000
BATCH_SIZE = 1 << 22
"""Rows, and characters, that are judged at a time."""

WELL_QUOTED = re.compile(r"{0}(?:,{0})*".format(FIELD.decode()))
NOT_UTF_8 = re.compile("[\udc00-\udcff]")
LINE_ENDS = {"\n": "LF", "\r\n": "CRLF", "\r": "CR alone"}


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
    with database.connect() as judge, database.connect() as lander:
        spread, verdicts, place = is_cluster(judge), Verdicts(judge), 0
        with (
            new_staging_table(lander, table, delivery),
            lander.cursor().copy(_copy(table, [*columns, POSITION] if spread else columns)) as copy,
        ):
            for batch in _batches(_records(file, table, columns)):
                _judge(verdicts, file.name, table, columns, batch)
                for record in batch:
                    place += 1
                    if not spread:
                        copy.write_row(record.fields)
                    elif _has_key(record, file.name, table, columns):
                        copy.write_row([*record.fields, place])
                    yield from record.problems
                    found |= bool(record.problems)
                    read_whole &= record.followed
    if not found:
        yield stopped.problem
    return read_whole


def _copy(table: Table, columns: list[str]) -> sql.Composed:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("copy {} ({}) from stdin").format(sql.Identifier("staging", table.name), names)


def _has_key(record: Record, file: str, table: Table, columns: list[str]) -> bool:
    """Whether Citus can take a record: its key says which node it goes to. Without one, that is one of its problems."""
    key = table.primary_key
    if record.fields[columns.index(key)] is not None:
        return True
    if record.followed and not any(problem.column in {key, None} for problem in record.problems):
        record.problems.append(Problem(file, "is empty", record.line, key))
    return False


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
    if raw.is_end_of_data:
        fields = []
    kept: list[str | None] = [field or None for field in fields[: len(columns)]]
    kept += [None] * (len(columns) - len(kept))
    for position, field in enumerate(kept if NOT_UTF_8.search(raw.text) else ()):
        if field is not None and NOT_UTF_8.search(field):
            reason = "holds a NUL byte" if NUL in field else "is not UTF-8"
            problems.append(Problem(file, reason, raw.line, columns[position], _shown(field)))
            kept[position] = _shown(field) if position in texts else None
    return Record(raw.line, kept, problems, size=len(raw.text))


def _wrong_form(raw: RawRecord, fields: list[str], end: str, columns: int) -> Iterator[str]:
    """What is wrong with a record whatever its values are."""
    if raw.is_end_of_data:
        yield "a line \\. may not be there: PostgreSQL may take it for the end of the file"
    elif len(fields) != columns:
        counted = "an empty line" if not fields else f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
        yield f"{counted} where the header has {columns}"
    if '"' in raw.text and not WELL_QUOTED.fullmatch(raw.text.removesuffix(raw.end)):
        yield "a quote within a field that is not quoted as a whole, or not doubled in one that is"
    if raw.end not in {end, ""}:
        yield f"ends in {LINE_ENDS[raw.end]} where the header ends in {LINE_ENDS[end]}"


def _judge(verdicts: Verdicts, file: str, table: Table, columns: list[str], batch: list[Record]) -> None:
    """Take the values that PostgreSQL would not read out of a batch."""
    kinds = [(place, table.column(name).data_type) for place, name in enumerate(columns)]
    kinds = [(place, kind) for place, kind in kinds if kind != "text"]
    wrong = verdicts.on(
        (kind, text) for record in batch for place, kind in kinds if (text := record.fields[place]) is not None
    )
    for record in batch:
        for place, kind in kinds:
            text = record.fields[place]
            if text is not None and (reason := wrong[kind, text]) is not None:
                record.problems.append(Problem(file, reason, record.line, columns[place], _cut(text)))
                record.fields[place] = None


def _shown(value: str) -> str:
    """A value as a report may hold it: not endless, and with escapes for what is not text."""
    text = value.replace(NUL, "\\x00").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
