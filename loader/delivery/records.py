"""A CSV file's records with the lines on which they begin, read on also where COPY would stop; in constant memory."""

from __future__ import annotations

import csv
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from loader.delivery.csv_contract import RECORD_LIMIT
from loader.delivery.files import SourceFile

NUL = "\udc00"
"""Stands for a NUL byte while a line is split, as Python's surrogates stand for bytes that are not UTF-8."""

PIECE = re.compile(r"[^\r\n]*(?:\r\n|[\r\n]|\Z)")

UNEVEN = re.compile(rb'"|\r(?!\n)')
"""What a file must have in it for a record to take another number of lines than one."""


class Endless(Exception):
    """A record does not end; `line` is where it begins."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


@dataclass
class RawRecord:
    """One record: the line on which it begins as an editor counts them, its fields, and its text, line end included."""

    line: int
    fields: list[str]
    text: str

    @property
    def end(self) -> str:
        """What ends it; nothing at the end of a file."""
        return self.text[len(self.text.rstrip("\r\n")) :]

    @property
    def is_end_of_data(self) -> bool:
        """Whether it is a line `\\.`, outside quotes."""
        return self.text.startswith("\\.") and self.text == f"\\.{self.end}"


def raw_records(file: SourceFile) -> Iterator[RawRecord]:
    """All records, the header first.

    Raises:
        Endless: a record has no end; nothing after it was read.
        OSError and the like: the file is damaged.
    """
    csv.field_size_limit(RECORD_LIMIT)
    with file.open() as stream:
        lines = _Lines(stream)
        for fields in csv.reader(iter(lines), strict=False):
            if lines.exhausted:
                raise Endless(lines.line, "a quote in the record that begins here has no end")
            yield lines.record(fields)


class _Lines:
    """The lines of a file for csv.reader; keeps those of the record that is being read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._taken: list[str] = []
        self._size = 0
        self.line = 1
        self.exhausted = False

    def __iter__(self) -> Iterator[str]:
        mark = "\ufeff"
        while line := self._stream.readline(RECORD_LIMIT + 1):
            self._size += len(line)
            if self._size > RECORD_LIMIT:
                reason = f"the record that begins here has no end within {RECORD_LIMIT:,} bytes: is a quote missing?"
                raise Endless(self.line, reason)
            text = line.decode("utf-8", "surrogateescape").replace("\0", NUL).removeprefix(mark)
            mark = ""
            # a carriage return alone ends a record for csv.reader, not a line for an editor
            for piece in PIECE.findall(text)[:-1] if "\r" in text.removesuffix("\r\n") else [text]:
                self._taken.append(piece)
                yield piece
        self.exhausted = True

    def record(self, fields: list[str]) -> RawRecord:
        """The record that csv.reader has made of the lines it took."""
        record = RawRecord(self.line, fields, "".join(self._taken))
        self.line += record.text.count("\n")
        self._taken.clear()
        self._size = 0
        return record


class LineNumbers:
    """From a record's place in a file (1 is the first after the header) to its line in an editor.

    What is kept is 16 bytes for each record that does not take one line.
    """

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._shifts: tuple[array[int], array[int]] | None = None

    def of(self, place: int) -> int:
        """The line on which the record begins."""
        if self._shifts is None:
            self._shifts = self._read_shifts()
        places, shifts = self._shifts
        after = bisect_right(places, place)
        return place + 1 + (shifts[after - 1] if after else 0)

    def _read_shifts(self) -> tuple[array[int], array[int]]:
        """From which places on lines and places differ by something else than before, and by how much then."""
        places, shifts = array("q"), array("q", [0])
        if any(UNEVEN.search(chunk) for chunk in self._file.chunks()):
            for place, record in enumerate(raw_records(self._file)):
                shift = record.line - place - 1
                if shift != shifts[-1]:
                    places.append(place)
                    shifts.append(shift)
        return places, shifts[1:]
