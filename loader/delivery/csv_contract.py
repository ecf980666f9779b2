"""What a record of a CSV file looks like, and a check of a file's bytes on their way into COPY.

PostgreSQL takes more. It reads `yesterday` as a date, drops quotes within a field without a word, and before version
18 stops reading at a line `\\.`. So one pattern says what a record looks like, types of values apart, and all of a file
must be such records. What is wrong with one that is not, landing/diagnosis.py finds.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping

RECORD_LIMIT = 1 << 20
"""Bytes of a record at most, line ends in it included: where one seems longer, a quote is missing."""

FIELD = rb'(?:"[^"]*(?:""[^"]*)*"|[^",\r\n]*)'
"""Anything in quotes, quotes in it doubled; or anything but quotes, commas and line ends."""

DATE = rb'(?:"\d{4}-\d\d-\d\d"|\d{4}-\d\d-\d\d|""|)'
END_OF_DATA = rb"\\\.[\r\n]"


class Unfit(Exception):
    """A file holds a record that must not land."""


def watched(chunks: Iterable[bytes], columns: Mapping[str, str]) -> Iterator[bytes]:
    """Pass on the chunks of a file, each after a look at the records that end in it.

    Args:
        columns: the names that the header must have, in its order, and their data types.

    Raises:
        Unfit: a record is not as the contract wants it, or does not end.
    """
    kinds = columns.values()
    record = b",".join(DATE if kind == "date" else FIELD for kind in kinds)
    records = re.compile(rb"(?:(?!" + END_OF_DATA + rb")" + record + rb"\r?\n)*")
    plain_allowed, in_header, rest = "date" not in kinds, True, b""

    def after_records(text: bytes) -> bytes:
        if plain_allowed and _is_plain(text):
            return text[text.rfind(b"\n") + 1 :]
        good = records.match(text)
        return text[good.end() :] if good else text

    for chunk in chunks:
        rest += chunk
        if in_header and b"\n" in rest:
            header, _, rest = rest.partition(b"\n")
            in_header = False
            if next(csv.reader([header.decode("utf-8-sig", "replace").rstrip("\r")]), None) != list(columns):
                raise Unfit("the header is not the one that was looked at")
        if not in_header:
            rest = after_records(rest)
        # a line end in what is left belongs to a field in quotes that goes on, or the record is wrong
        if len(rest) > RECORD_LIMIT or (b"\n" in rest and b'"' not in rest):
            raise Unfit("a record is not as the contract wants it")
        yield chunk
    if rest and after_records(rest + b"\n"):
        raise Unfit("the last record is not as the contract wants it")


def _is_plain(text: bytes) -> bool:
    """Whether the text has nothing that COPY would read otherwise than the contract, dates apart; most files have not.

    How many fields there are, COPY counts.
    """
    return not (
        b'"' in text
        or b"\\" in text
        or (b"\r" in text and text.count(b"\r") != text.count(b"\r\n") + text.endswith(b"\r"))
        or text.find(b"\n") > RECORD_LIMIT
    )
