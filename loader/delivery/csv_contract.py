"""Looks at a file's bytes on their way into COPY: is every record one that the contract allows?

PostgreSQL takes more. It reads `yesterday` as a date, drops quotes within a field without a word, and before version
18 stops reading at a line `\\.`. So one pattern says what a record looks like, types of values apart, and all of a file
must be such records. What is wrong with one that is not, diagnosis.py finds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

RECORD_LIMIT = 1 << 20
"""Bytes of a record at most, line ends in it included: where one seems longer, a quote is missing."""

FIELD = rb'(?:"[^"]*(?:""[^"]*)*"|[^",\r\n]*)'
"""Anything in quotes, quotes in it doubled; or anything but quotes, commas and line ends."""

DATE = rb'(?:"\d{4}-\d\d-\d\d"|\d{4}-\d\d-\d\d|""|)'
END_OF_DATA = rb"\\\.[\r\n]"


class Unfit(Exception):
    """A file holds a record that must not land."""


class Watch:
    """Sees all of a file, a chunk at a time.

    Args:
        kinds: the data types of the columns, in the order of the header.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        record = b",".join(DATE if kind == "date" else FIELD for kind in kinds)
        self._has_dates = "date" in kinds
        self._records = re.compile(rb"(?:(?!" + END_OF_DATA + rb")" + record + rb"\r?\n)*")
        self._rest = b""
        self._header_seen = False

    def see(self, chunk: bytes) -> None:
        """Look at the records that end in this chunk.

        Raises:
            Unfit: one of them may not be there, or one does not end.
        """
        text = self._rest + chunk
        if not self._header_seen:
            _, newline, records = text.partition(b"\n")
            self._header_seen = bool(newline)
            text = records if newline else text
        if not self._header_seen:
            self._rest = text
        elif self._is_plain(text):
            self._rest = text[text.rfind(b"\n") + 1 :]
        else:
            good = self._records.match(text)
            self._rest = text[good.end() :] if good else text
        # a line end in what is left belongs to a field in quotes that goes on, or the record is wrong
        if len(self._rest) > RECORD_LIMIT or (b"\n" in self._rest and b'"' not in self._rest):
            raise Unfit("a record is not as the contract wants it")

    def _is_plain(self, text: bytes) -> bool:
        """Whether the text has nothing that COPY would read otherwise than the contract; most files have not.

        How many fields there are, COPY counts.
        """
        return not (
            self._has_dates
            or b'"' in text
            or b"\\" in text
            or (b"\r" in text and text.count(b"\r") != text.count(b"\r\n") + text.endswith(b"\r"))
            or text.find(b"\n") > RECORD_LIMIT
        )

    def end(self) -> None:
        """The file has ended.

        Raises:
            Unfit: it ended within a record, or after one that may not be there.
        """
        if self._rest:
            self.see(b"\n")
        if self._rest:
            raise Unfit("the last record is not as the contract wants it")
