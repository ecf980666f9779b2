"""What a record of a CSV file looks like, and a check of a file's bytes on their way into COPY.

COPY accepts more than the contract does: it reads `yesterday` as a date, silently drops quotes within a field, and
before version 18 stops at a line `\\.`. So every record of a file must match one pattern. It checks the form of the
record, and values only where COPY is too lenient. refusals/diagnosis.py finds what is wrong with a file that fails.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache

from loader.contract.tables import CsvForm

RECORD_LIMIT = 1 << 20
"""The largest size of a record in bytes, line ends included. A longer record means that a quote is missing."""

END_OF_DATA = rb"\\\.[\r\n]"

TOTALS = {"total", "totals", "grand total", "sum", "summe", "gesamt", "gesamtsumme", "somme", "totale"}
SUMMED = re.compile(r"[+-]?[\d., '\u00a0]*\d[\d., '\u00a0]*")


@cache
def field(form: CsvForm) -> str:
    """Pattern of a field: quoted text with doubled quotes inside, or text without quotes, delimiters and line ends."""
    quote, delimiter = re.escape(form.quote), re.escape(form.delimiter)
    return f"(?:{quote}[^{quote}]*(?:{quote}{quote}[^{quote}]*)*{quote}|[^{quote}{delimiter}\\r\\n]*)"


@cache
def well_quoted(form: CsvForm) -> re.Pattern[str]:
    """Pattern of a record without its line end; fields in quotes may span lines."""
    return re.compile(f"{field(form)}(?:{re.escape(form.delimiter)}{field(form)})*")


ISO_DATE = r"\d{4}-\d\d-\d\d"


def _date(form: CsvForm) -> str:
    # if a field could match in two ways, a record that does not match would take exponential time
    others = (text for text in dict.fromkeys(form.nulls) if not re.fullmatch(ISO_DATE, text))
    dates = "|".join([ISO_DATE, *map(re.escape, others), ""])
    return f"(?:{form.quote}(?:{dates}){form.quote}|{dates})"


NUMBERS = {"int", "integer", "smallint", "bigint", "numeric"}


def _number(form: CsvForm) -> str:
    """Pattern of a field without base letters and underscores: PostgreSQL would read 0x1F as 31, and 1_0 as 10."""
    quote, odd = re.escape(form.quote), "_xobXOB"
    nulls = "".join(f"|{re.escape(text)}" for text in dict.fromkeys(form.nulls) if not set(text).isdisjoint(odd))
    bare = f"[^{quote}{re.escape(form.delimiter)}\\r\\n{odd}]*"
    return f"(?:{quote}(?:[^{quote}{odd}]*{nulls}){quote}|{bare}{nulls})"


UNDERSCORED = re.compile(rb"_(?<=[0-9]_)[0-9]")
OF_A_BASE = re.compile(rb"0[xobXOB](?<![0-9A-Za-z]0.)")
"""What such a number contains. Both patterns begin with a literal, so that the search is fast."""


class Unfit(Exception):
    """A file holds a record that must not land."""


def checked(chunks: Iterator[bytes], columns: Mapping[str, str], form: CsvForm, key: str) -> Iterator[bytes]:
    """Check the records of a file and pass them on, with an empty field for each text that stands for null.

    Args:
        columns: the column names that the header must have, in this order, and their data types.
        key: the column that identifies a row; the last line must not have a word for totals in it.

    Raises:
        Unfit: the header has other columns, a record breaks the contract or does not end, or the last line has totals.
    """
    kinds, quote = columns.values(), form.quote.encode()
    patterns = {"date": _date(form), **dict.fromkeys(NUMBERS, _number(form))}
    record = re.escape(form.delimiter).join(patterns.get(kind, field(form)) for kind in kinds).encode()
    records = re.compile(rb"(?:(?!" + END_OF_DATA + rb")" + record + rb"\r?\n)*")
    mended, has_dates = _mending(form), "date" in kinds

    def in_records(text: bytes) -> int:
        """The length of the longest prefix that consists of whole, good records."""
        if not has_dates and _is_plain(text, quote):
            return text.rfind(b"\n") + 1
        good = records.match(text)
        return good.end() if good else 0

    rest, last = b"", b""

    chunks = _header_first(chunks, list(columns), form)
    yield next(chunks)
    for chunk in chunks:
        rest += chunk
        while end := in_records(rest[:RECORD_LIMIT]):
            last = rest[rest.rfind(b"\n", 0, end - 1) + 1 : end]
            yield mended(rest[:end])
            rest = rest[end:]
        # a line end in the rest is inside a quoted field that is still open, or the record is wrong
        if len(rest) > RECORD_LIMIT or (b"\n" in rest and quote not in rest):
            raise Unfit("a record is not as the contract wants it")
    if rest and in_records(rest + b"\n") <= len(rest):
        raise Unfit("the last record is not as the contract wants it")
    yield mended(rest)
    last = rest or last
    if last.count(quote) % 2 == 0 and is_total(_fields(last, form), list(columns).index(key), form.nulls):
        raise Unfit("the last line has totals")


def _header_first(chunks: Iterator[bytes], columns: list[str], form: CsvForm) -> Iterator[bytes]:
    """The same bytes, but the header is a chunk of its own with a line end. Unfit if it does not have these columns."""
    read = b""
    while b"\n" not in read and len(read) <= RECORD_LIMIT:
        read += next(chunks, b"\n")
    header, end, rest = read.partition(b"\n")
    if _fields(header.removeprefix(codecs.BOM_UTF8), form) != columns:
        raise Unfit("the header is not the one that was looked at")
    yield header + end
    yield rest
    yield from chunks


def is_total(fields: Sequence[str], key: int, nulls: Collection[str] = ()) -> bool:
    """Whether a record has a word for totals as its key and only numbers or nulls beside it."""
    if key >= len(fields) or fields[key].strip(" \u00a0:").casefold() not in TOTALS:
        return False
    others = [text for place, text in enumerate(fields) if place != key and text and text not in nulls]
    return all(map(SUMMED.fullmatch, others))


def _fields(record: bytes, form: CsvForm) -> list[str]:
    text = record.decode(form.encoding, "replace").rstrip("\r\n")
    return next(csv.reader([text], delimiter=form.delimiter, quotechar=form.quote), [])


def _mending(form: CsvForm) -> Callable[[bytes], bytes]:
    """A function that empties the fields that stand for null, quoted or not, as a quoted empty field is null too."""
    if not form.nulls:
        return lambda text: text
    delimiter, quote = re.escape(form.delimiter).encode(), form.quote.encode()
    nulls = "|".join(map(re.escape, form.nulls)).encode()
    bare = re.compile(rb"(?<![^%b\n])(?:%b)(?![^%b\r\n])" % (delimiter, nulls, delimiter))
    fields = re.compile(b"%b(?![^%b\r\n])" % (field(form).encode(), delimiter))
    is_null = re.compile(b"(%b?)(?:%b)\\1" % (quote, nulls)).fullmatch

    def mended(text: bytes) -> bytes:
        if quote not in text:
            return bare.sub(b"", text)
        return fields.sub(lambda found: b"" if is_null(found[0]) else found[0], text)

    return mended


def _is_plain(text: bytes, quote: bytes) -> bool:
    """Whether COPY reads text without dates just as the contract does; true of most files.

    COPY itself checks the number of fields.
    """
    return not (
        quote in text
        or b"\\" in text
        or UNDERSCORED.search(text)
        or OF_A_BASE.search(text)
        or (b"\r" in text and text.count(b"\r") != text.count(b"\r\n") + text.endswith(b"\r"))
    )
