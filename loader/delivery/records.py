"""Read a CSV file's records with their line numbers, in constant memory, also past errors that stop COPY."""

from __future__ import annotations

import csv
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from loader.contract.tables import CsvForm
from loader.delivery.csv_contract import RECORD_LIMIT, well_quoted
from loader.delivery.files import UNREADABLE, SourceFile, TableFiles, unreadable
from loader.words import counted

NUL = "\udc00"
"""Stands for a NUL byte while a line is split, as Python's surrogates stand for bytes that are not in the encoding."""

PIECE = re.compile(r"[^\r\n]*(?:\r\n|[\r\n]|\Z)")
LINE_ENDS = {"\n": "LF", "\r\n": "CRLF", "\r": "CR alone"}

UNEVEN = re.compile(rb"[\"']|\r(?!\n)")
"""Without a match of this, every record of a file takes exactly one line."""


class Broken(Exception):
    """A file cannot be read from the record that begins on `line` onward."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


@dataclass
class Record:
    """One record: its first line as an editor counts, its fields, its text with the line end, and the line end."""

    line: int
    fields: list[str]
    text: str
    end: str
    form: CsvForm

    @property
    def is_end_of_data(self) -> bool:
        """Whether it is a line `\\.`, outside quotes."""
        return self.text == f"\\.{self.end}"

    @property
    def is_well_quoted(self) -> bool:
        """Whether quotes enclose whole fields only and are doubled inside them."""
        bare = self.text.removesuffix(self.end)
        return self.form.quote not in bare or well_quoted(self.form).fullmatch(bare) is not None

    def wrong_form(self, header: Record) -> Iterator[str]:
        """Yield what is wrong with the record apart from its values."""
        fields, columns = len(self.fields), len(header.fields)
        if self.is_end_of_data:
            yield "a line \\. may not be there: PostgreSQL may take it for the end of the file"
        elif (fields or 1) != columns:  # PostgreSQL, too, reads an empty line as one empty field
            there = counted(fields, "field") if fields else "an empty line"
            yield f"{there} where the header has {columns}"
        if not self.is_well_quoted:
            yield "a quote within a field that is not quoted as a whole, or not doubled in one that is"
        if self.end not in {header.end, ""}:
            yield f"ends in {LINE_ENDS[self.end]} where the header ends in {LINE_ENDS[header.end]}"


def read_records(file: SourceFile) -> Iterator[Record]:
    """Yield all records, the header first, without the byte-order mark.

    Raises:
        Broken: the file is damaged, or a record has no end. Nothing after it is read.
    """
    csv.field_size_limit(RECORD_LIMIT)
    taken: list[str] = []
    line, size, at_end = 1, 0, False

    def pieces() -> Iterator[str]:
        """Yield lines for csv.reader, which also ends a line at a lone carriage return."""
        nonlocal size, at_end
        mark = "\ufeff"
        with file.open() as stream:
            while raw := stream.readline(RECORD_LIMIT + 1):
                size += len(raw)
                if size > RECORD_LIMIT:
                    why = f"has more than {RECORD_LIMIT:,} bytes: a quote may be missing"
                    raise Broken(line, f"the record that begins here {why}")
                text = raw.decode(file.form.encoding, "surrogateescape").replace("\0", NUL).removeprefix(mark)
                mark = ""
                for piece in PIECE.findall(text)[:-1] if "\r" in text.removesuffix("\r\n") else [text]:
                    taken.append(piece)
                    yield piece
        at_end = True

    try:
        for fields in csv.reader(pieces(), delimiter=file.form.delimiter, quotechar=file.form.quote, strict=False):
            if at_end:
                raise Broken(line, "a quote in the record that begins here is never closed")
            text = "".join(taken)
            yield Record(line, fields, text, text[len(text.rstrip("\r\n")) :], file.form)
            line += text.count("\n")
            size = 0
            taken.clear()
    except UNREADABLE as error:
        raise Broken(line, unreadable(error)) from None


class LineNumbers:
    """Maps a row's place in a table's files (1 is the first row) to its file and its line number in an editor.

    Keeps 24 bytes for each record that does not take exactly one line.
    """

    def __init__(self, files: TableFiles) -> None:
        first, *others = files.parts
        self._places, self._shifts, self._names = array("q", [1]), array("q", [1]), [first.name]
        if not others and not any(UNEVEN.search(chunk) for chunk in first.chunks()):
            return
        place = 0
        for part in files.parts:
            for record in islice(read_records(part), 1, None):
                place += 1
                if (part.name, record.line - place) != (self._names[-1], self._shifts[-1]):
                    self._places.append(place)
                    self._shifts.append(record.line - place)
                    self._names.append(part.name)

    def of(self, place: int) -> tuple[str, int]:
        """The name of the file, and the line on which the row's record begins."""
        mark = bisect_right(self._places, place) - 1
        return self._names[mark], place + self._shifts[mark]
