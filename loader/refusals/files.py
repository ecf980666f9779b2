"""What is wrong with a month's files before they are copied: their names, what they are at all, and their headers."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from loader.contract.tables import Table
from loader.delivery import Delivery, Problem, SourceFile
from loader.errors import NotDelivered
from loader.refusals.causes import (
    BLANK,
    HEAD,
    MISSING_COLUMN,
    UNKNOWN_COLUMN,
    Cause,
    encoded_otherwise,
    of_bytes,
    of_header_text,
    without_blanks,
)
from loader.refusals.records import NUL, Broken, Record, read_records
from loader.words import NOT_TEXT

LISTED = 12
MISSING = "the file is missing"


def not_there(delivery: Delivery) -> NotDelivered:
    """That neither the folder nor the archive of a month is there, and what is."""
    folder, *others = delivery.names
    place = delivery.data_dir
    wanted = f"month {delivery.label} is not there: {place / folder} is missing, and so is"
    if not place.is_dir():
        return NotDelivered(f"{wanted} {place}")
    there = sorted(path.name for path in place.iterdir() if not path.name.startswith("."))
    return NotDelivered(f"{wanted} {''.join(others)}; {place} has {_listed(there)}")


def of_names(
    delivery: Delivery, place: Path, missing: Sequence[str], takers: Mapping[SourceFile, Sequence[str]]
) -> Iterator[Problem]:
    """The files that several tables would take, and those that are missing.

    Args:
        place: the folder or archive.
        takers: each file that is there -> the tables that would take it.

    Raises:
        NotDelivered: there is nothing like a delivery.
    """
    for file, names in takers.items():
        if len(names) > 1:
            yield Problem(file.name, f"is a file of {' and of '.join(names)}: give them other names in `files`")
    strange = [file.base for file, names in takers.items() if not names]
    problems = [_why_missing(place, wanted, strange) for wanted in missing]
    if missing and len(strange) == len(takers) and all(problem.reason == MISSING for problem in problems):
        has = f"{place} has {_listed(strange)}, and none of {', '.join(missing)}"
        raise NotDelivered(f"month {delivery.label} is not there: {has}")
    yield from problems


def of_header(file: SourceFile, table: Table) -> list[Problem]:
    """What is wrong with a file as a whole, or with its header. UNREADABLE where it cannot be read."""
    try:
        return _of_header(file, table)
    except Broken as error:
        return [Problem(file.name, str(error), error.line)]


def _of_header(file: SourceFile, table: Table) -> list[Problem]:
    if not file.size:
        return [Problem(file.name, "the file is empty", line=1)]
    with file.open() as stream:
        cause = of_bytes(stream.read(HEAD))
    records = read_records(file)
    header = None if cause else next(records, None)
    if header and header.fields:
        cause = _unusable(header, table)
    if cause:
        return [Problem(file.name, cause[0], line=1, remedy=cause[1])]
    if header is None or not header.fields:
        return [Problem(file.name, "the first line is empty", line=1)]
    problems = list(_of_columns(file.name, header, table))
    if not problems and not any(record.text.strip("\r\n") for record in records):
        problems = [Problem(file.name, "the file has a header and no rows", line=1)]
    return problems


def _unusable(header: Record, table: Table) -> Cause | None:
    """Why the names cannot be read from a header, or none is found in it, as it is written in another form."""
    if NUL in header.text:
        return "the header has a NUL byte in it", "Export it as text"
    if NOT_TEXT.search(header.text):
        reason, remedy = encoded_otherwise(header.form)
        return f"the header {reason}", remedy
    if header.end == "\r":
        return "its lines end in CR alone, where LF or CRLF belongs", "Export it with lines that end in LF"
    if all(set(column.names).intersection(header.fields) for column in table.columns):
        return None
    return of_header_text(header.text, table.form, {name for column in table.columns for name in column.names})


def _of_columns(file: str, record: Record, table: Table) -> Iterator[Problem]:
    if not record.is_well_quoted:
        yield Problem(file, "the header is not CSV: a quote within a name", line=1)
        return
    header = record.fields
    known = {name for column in table.columns for name in column.names}
    missing = [column.name for column in table.columns if not set(header).intersection(column.names)]
    blank = {name: meant for name in header if name not in known and (meant := without_blanks(name)) in missing}
    for name, meant in blank.items():
        yield Problem(file, BLANK[0], line=1, column=meant, value=name, remedy=BLANK[1])
    missing = [column for column in missing if column not in blank.values()]
    for name in sorted(set(header) - known - set(blank)):
        yield Problem(file, f"unknown column{near(name, missing)}", line=1, column=name, remedy=UNKNOWN_COLUMN)
    counts = Counter(header)
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield Problem(file, f"the column is there {counts[name]} times", line=1, column=name)
    for column in table.columns:
        if column.name in missing and not column.may_be_missing:
            yield Problem(file, "the column is missing", line=1, column=column.name, remedy=MISSING_COLUMN)
        if len(both := [name for name in column.names if name in header]) > 1:
            reason = f"the column is there under {len(both)} names: {', '.join(both)}"
            yield Problem(file, reason, line=1, column=column.name)


def _why_missing(place: Path, wanted: str, strange: Sequence[str]) -> Problem:
    """What may have become of a file that is missing. `strange` are the names of those that no table takes."""
    for end in ("", ".gz"):
        if deeper := next(place.glob(f"*/{wanted}{end}"), None):
            remedy = f"Move the files up into {place.name}"
            return Problem(wanted, f"one folder deeper, in {deeper.parent.name}", remedy=remedy)
    return Problem(wanted, f"{MISSING}{near(wanted, strange)}")


def near(name: str, known: Iterable[str]) -> str:
    """A question after the known name that comes closest; nothing where none does."""
    by_lower = {candidate.strip().lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.75)
    return f': did you mean "{by_lower[close[0]]}"?' if close else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:LISTED], *(["more"] if names[LISTED:] else [])]) or "nothing"
