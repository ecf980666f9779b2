"""A file before it is copied: whether it is CSV at all, and its header the one that is declared."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from loader.contract.tables import Table
from loader.delivery.causes import BLANK, HEAD, Cause, Problem, blanks, encoded_otherwise, of_bytes, of_header
from loader.delivery.files import UNREADABLE, SourceFile, unreadable
from loader.delivery.records import NOT_TEXT, NUL, Broken, Record, read_records


def look(file: SourceFile, table: Table) -> tuple[SourceFile, list[Problem]]:
    """A file with what is seen of it, and what is wrong with it as a whole, or with its header."""
    try:
        return _with_header(replace(file.looked_at(), form=table.form), table)
    except Broken as error:
        return file, [Problem(file.name, str(error), error.line)]
    except UNREADABLE as error:
        return file, [Problem(file.name, unreadable(error))]


def _with_header(file: SourceFile, table: Table) -> tuple[SourceFile, list[Problem]]:
    if not file.size:  # nor is one read that only seems to be, as those in /proc
        return file, [Problem(file.name, "the file is empty", line=1)]
    with file.open() as stream:
        if cause := of_bytes(stream.read(HEAD)):
            return file, [_of_header(file, cause)]
    records = read_records(file)
    header = next(records, None)
    if header is None or not header.fields:
        return file, [Problem(file.name, "the first line is empty", line=1)]
    if cause := _unusable(header) or _written_otherwise(header, table):
        return file, [_of_header(file, cause)]
    file = replace(file, columns=tuple(header.fields))
    problems = list(_header_problems(file, header, table))
    if not problems and not any(record.text.strip("\r\n") for record in records):
        problems = [Problem(file.name, "the file has a header and no rows", line=1)]
    return file, problems


def _of_header(file: SourceFile, cause: Cause) -> Problem:
    what, remedy = cause
    return Problem(file.name, what, line=1, remedy=remedy)


def _unusable(header: Record) -> Cause | None:
    """Why no names can be read from a header."""
    if NUL in header.text:
        return "the header has a NUL byte in it", "Export it as text"
    if NOT_TEXT.search(header.text):
        reason, remedy = encoded_otherwise(header.form)
        return f"the header {reason}", remedy
    if header.end == "\r":
        return "its lines end in CR alone, where LF or CRLF belongs", "Export it with lines that end in LF"
    return None


def _written_otherwise(header: Record, table: Table) -> Cause | None:
    if all(set(column.names).intersection(header.fields) for column in table.columns):
        return None
    return of_header(header.text, table.form, {name for column in table.columns for name in column.names})


def _header_problems(file: SourceFile, record: Record, table: Table) -> Iterator[Problem]:
    if not record.is_well_quoted:
        yield Problem(file.name, "the header is not CSV: a quote within a name", line=1)
        return
    header = record.fields
    known = {name for column in table.columns for name in column.names}
    missing = [column.name for column in table.columns if not set(header).intersection(column.names)]
    blank = dict(blanks(header, missing))
    for name, meant in blank.items():
        yield Problem(file.name, BLANK[0], line=1, column=meant, value=name, remedy=BLANK[1])
    missing = [column for column in missing if column not in blank.values()]
    for name in sorted(set(header) - known - set(blank)):
        yield Problem(file.name, f"unknown column{near(name, missing)}", line=1, column=name)
    counts = Counter(header)
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield Problem(file.name, f"the column is there {counts[name]} times", line=1, column=name)
    for column in table.columns:
        if column.name in missing and not column.may_be_missing:
            yield Problem(file.name, "the column is missing", line=1, column=column.name)
        if len(both := [name for name in column.names if name in header]) > 1:
            reason = f"the column is there under {len(both)} names: {', '.join(both)}"
            yield Problem(file.name, reason, line=1, column=column.name)


def near(name: str, known: Iterable[str]) -> str:
    """A question after the known name that comes closest; nothing where none does."""
    by_lower = {candidate.strip().lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.75)
    return f': did you mean "{by_lower[close[0]]}"?' if close else ""
