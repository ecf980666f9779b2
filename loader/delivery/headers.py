"""Look at a file before it is copied: record its state, and check that it is CSV with the declared header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import product

from loader.contract.tables import Table
from loader.delivery import causes
from loader.delivery.files import UNREADABLE, SourceFile, unreadable
from loader.delivery.problem import Problem
from loader.delivery.records import NUL, Broken, Record, read_records
from loader.words import NOT_TEXT, counted


def look(file: SourceFile, table: Table) -> tuple[SourceFile, list[Problem]]:
    """The file with its identity, size, form and columns, and the problems of the file as a whole or its header."""
    try:
        file = replace(file.looked_at(), form=table.form)
        with file.open() as stream:
            cause = causes.of_bytes(stream.read(causes.HEAD), table.form)
        if cause:
            return file, [Problem(file.name, cause[0], line=1, remedy=cause[1])]
        records = read_records(file)
        header = next(records, None) if file.size else None  # files in /proc have size 0 and count as empty
        if header is None or not header.fields:
            return file, [Problem(file.name, "the first line is empty" if file.size else "the file is empty", line=1)]
        if cause := _unusable(header, table):
            return file, [Problem(file.name, cause[0], line=1, remedy=cause[1])]
        problems = list(_of_columns(file.name, header, table))
        if not problems and not any(record.text.strip("\r\n") for record in records):
            problems = [Problem(file.name, "the file has a header and no rows", line=1)]
        return replace(file, columns=tuple(header.fields)), problems
    except UNREADABLE as error:
        return file, [Problem(file.name, unreadable(error))]
    except Broken as error:
        return file, [Problem(file.name, str(error), error.line)]


def _unusable(header: Record, table: Table) -> causes.Cause | None:
    """Why names cannot be read from a header: NUL, another encoding, CR line ends, or another delimiter or quote."""
    if NUL in header.text:
        return "the header has a NUL byte in it", "Export it as text"
    if NOT_TEXT.search(header.text):
        reason, remedy = causes.encoded_otherwise(header.form)
        return f"the header {reason}", remedy
    if header.end == "\r":
        return "its lines end in CR alone, where LF or CRLF belongs", "Export it with lines that end in LF"
    if all(set(column.names).intersection(header.fields) for column in table.columns):
        return None
    return causes.of_header_text(header.text, table.form, set(table.header_names))


def _of_columns(file: str, record: Record, table: Table) -> Iterator[Problem]:
    if not record.is_well_quoted:
        yield Problem(file, "the header is not CSV: a quote within a name", line=1)
        return
    header, known = record.fields, set(table.header_names)
    missing = {column.name for column in table.columns if set(header).isdisjoint(column.names)}
    blank = dict(_with_blanks(sorted(set(header) - known), table, missing))
    for name, meant in blank.items():
        yield Problem(file, causes.BLANK[0], line=1, column=meant, value=causes.shown(name), remedy=causes.BLANK[1])
    missing.difference_update(blank.values())
    yield from _of_unknown(file, sorted(set(header) - known - set(blank) - {""}), missing)
    if nameless := header.count(""):
        yield Problem(file, f"{counted(nameless, 'column')} without a name", line=1, remedy=causes.NAMELESS)
    for name, count in sorted(Counter(header).items()):
        if count > 1 and name:
            yield Problem(file, f"the column is there {count} times", line=1, column=causes.shown(name))
    yield from _of_declared(file, header, table, missing)


def _with_blanks(names: Sequence[str], table: Table, missing: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that has blanks besides a name of a missing column, and that column."""
    for column in (column for column in table.columns if column.name in missing):
        for meant, name in product(column.names, names):
            is_longer = len(name) > len(meant) or not name.isprintable()
            if is_longer and causes.without_blanks(name) == causes.without_blanks(meant):
                yield name, column.name


def _of_unknown(file: str, names: Sequence[str], missing: Collection[str]) -> Iterator[Problem]:
    """Problems of unknown columns: one each, or one for all if there are many."""
    if len(names) > causes.LISTED:
        first = ", ".join(map(causes.shown, names[:3]))
        yield Problem(file, f"{len(names):,} unknown columns, like {first}", line=1, remedy=causes.UNKNOWN_COLUMN)
        return
    for name in names:
        reason = f"unknown column{causes.did_you_mean(name, missing)}"
        yield Problem(file, reason, line=1, column=causes.shown(name), remedy=causes.UNKNOWN_COLUMN)


def _of_declared(file: str, header: Collection[str], table: Table, missing: Collection[str]) -> Iterator[Problem]:
    """Problems of the declared columns that a header lacks or has under several names."""
    for column in table.columns:
        if column.name in missing and not column.may_be_missing:
            yield Problem(file, "the column is missing", line=1, column=column.name, remedy=causes.MISSING_COLUMN)
        if len(both := [name for name in column.names if name in header]) > 1:
            reason = f"the column is there under {len(both)} names: {', '.join(both)}"
            yield Problem(file, reason, line=1, column=column.name)
