"""Recognize what is wrong with a file from its bytes, its header, or the form of a value."""

from __future__ import annotations

import codecs
import csv
import difflib
import json
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import product

from loader.contract.tables import CsvForm
from loader.delivery.records import NUL
from loader.project import SOURCES
from loader.words import as_text

SHOWN = 200
"""The most characters of a value that a report shows."""

LISTED = 20
"""The most unknown columns that are listed one by one."""

Cause = tuple[str, str]
"""What is wrong, and what to do about it."""


HEAD = 512
"""How many bytes at the start of a file are read to recognize its format."""

FORMATS: list[tuple[re.Pattern[bytes], Cause]] = [
    (re.compile(start, re.DOTALL | re.IGNORECASE), (f"{what}, not CSV", remedy))
    for start, what, remedy in (
        (rb"PK\x03\x04", "a spreadsheet (xlsx) or a zip archive", "Export the sheet as CSV"),
        (rb"\xd0\xcf\x11\xe0", "a spreadsheet (xls)", "Export the sheet as CSV"),
        (rb"\x1f\x8b", "compressed with gzip", "Give it a name that ends in .csv.gz"),
        (rb"\s*<(!doctype|html|\?xml)", "a web page or XML", "See what the export wrote in place of the data"),
    )
]
UTF_16 = re.compile(rb"\xff\xfe|\xfe\xff|(?:[\t\r\n -~]\0){4}|(?:\0[\t\r\n -~]){4}")

DELIMITERS, QUOTES = ",;\t|", "\"'"

BETWEEN_THOUSANDS = ". '\u00a0\u2019\u202f"
DECIMAL_COMMA = re.compile(rf"\s*[+-]?(?:\d+|\d{{1,3}}(?:[{BETWEEN_THOUSANDS}]\d{{3}})+),\d+\s*")
THOUSANDS = re.compile(rf"\s*[+-]?\d{{1,3}}(?:[,{BETWEEN_THOUSANDS}]\d{{3}})+(?:\.\d+)?\s*")
OTHER_DATE = re.compile(
    r"(?!\d{4}-\d\d-\d\d$)\s*(?:\d\d?([./ -])\d\d?\1(?:\d{4}|\d\d)|\d{4}([./-])\d\d?\2\d\d?|\d{8})\s*"
)
DATE_AND_TIME = re.compile(r"\s*\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*", re.DOTALL)
CAUSES: dict[re.Pattern[str], Cause] = {
    DECIMAL_COMMA: ("a comma where the decimal point belongs", "Export numbers with a point, like 12.50"),
    THOUSANDS: ("thousands are separated", "Export numbers without separators, like 1234.50"),
    OTHER_DATE: ("a date in another order or form", "Export dates as 2024-01-31"),
    DATE_AND_TIME: ("a date with a time", "Export dates as 2024-01-31"),
}
FORMS = {"text": [], "date": [OTHER_DATE, DATE_AND_TIME], "numeric": [DECIMAL_COMMA, THOUSANDS], "boolean": []}
"""Data type -> forms that people read as a value of it, but that do not land; `of_value` adds the whole numbers."""

BLANK = (
    "a blank or an invisible character in the name of a column",
    "Remove it from the header, which must be as declared",
)
NAMELESS = "Name it in the header, or take out the delimiter that is too many there"
UNKNOWN_COLUMN = "Declare it, or add it to the `aliases` of a column, or have it left out: docs/changes.md"
MISSING_COLUMN = "Have it exported, or declare it with `optional: true`: docs/changes.md"
TOTAL_LINE = "a line of totals", "Export the file without it"
IN_META = f"under `config.meta` of its table in {SOURCES}"
NO_KEY = "Export each row with its key, and no line of totals"
"""What to do about a row without a key."""


def of_bytes(head: bytes, form: CsvForm) -> Cause | None:
    """Why a file that begins with these bytes is not CSV in its declared encoding; None if it may be."""
    if head.startswith(codecs.BOM_UTF8) and form.encoding != "utf-8":
        return f"encoded as UTF-8, not as {form.encoding}", f"Export it so, or declare `encoding: utf-8` {IN_META}"
    if UTF_16.match(head):
        return "encoded as UTF-16", 'Export it as UTF-8, which spreadsheets call "CSV UTF-8"'
    return next((cause for start, cause in FORMATS if start.match(head)), None)


def of_header_text(text: str, form: CsvForm, names: Collection[str]) -> Cause | None:
    """Name another delimiter or quote that finds more of the declared names in a header; None if none does."""

    def found(delimiter: str, quote: str) -> int:
        with suppress(csv.Error):
            fields = next(csv.reader([text.strip("\r\n")], delimiter=delimiter, quotechar=quote), [])
            return len({without_blanks(name) for name in fields}.intersection(names))
        return 0

    best = max(product(DELIMITERS, QUOTES), key=lambda pair: (found(*pair), pair == (form.delimiter, form.quote)))
    if found(*best) <= found(form.delimiter, form.quote):
        return None
    if best[0] != form.delimiter:
        return f"separated by {best[0]!r}, not by {form.delimiter!r}", _declare("delimiter", best[0], form.delimiter)
    return f"quoted with {best[1]}, not with {form.quote}", _declare("quote", best[1], form.quote)


def _declare(key: str, seen: str, declared: str) -> str:
    wanted = {",": "commas", ";": "semicolons", "\t": "tabs"}.get(declared, declared)
    return f"Export it with {wanted}, or declare `{key}: {json.dumps(seen)}` {IN_META}"


def encoded_otherwise(form: CsvForm) -> Cause:
    """The cause for bytes that are not in the declared encoding."""
    encoding = form.encoding.upper()
    return f"is not {encoding}", f"Export it as {encoding}, or declare `encoding: windows-1252` or another {IN_META}"


def of_value(kind: str, text: str) -> Cause | None:
    """The familiar form, such as a decimal comma, of a text that is not a value of its type; None if it has none."""
    forms = FORMS.get(kind, [THOUSANDS, DECIMAL_COMMA])
    return next((CAUSES[form] for form in forms if form.fullmatch(text)), None)


def shown(value: str) -> str:
    """Shorten a value or name for a report, and escape bytes that are not text."""
    text = as_text(value.replace(NUL, "\\x00"))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def without_blanks(name: str) -> str:
    """The name without blanks and invisible characters."""
    return "".join(character for character in name if character.isprintable() and not character.isspace())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask whether the closest known name was meant; an empty text if no name is close."""
    by_lower = {candidate.strip().lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.75)
    return f': did you mean "{by_lower[close[0]]}"?' if close else ""
