"""A file before it is copied: what it is now, and whether its header is the one that is declared."""

from __future__ import annotations

import csv
from contextlib import suppress
from dataclasses import replace

from loader.contract.tables import Table
from loader.delivery.csv_contract import RECORD_LIMIT, well_quoted
from loader.delivery.files import CHUNK, UNREADABLE, SourceFile, unreadable
from loader.delivery.problem import Problem


def look(file: SourceFile, table: Table) -> tuple[SourceFile, list[Problem]]:
    """A file with what is seen of it, and what is wrong with it as a whole, or with its header."""
    try:
        file = replace(file.looked_at(), form=table.form)
        with file.open() as stream:
            header = _header(stream.readline(RECORD_LIMIT), table)
            has_rows = any(chunk.strip(b"\r\n") for chunk in iter(lambda: stream.read(CHUNK), b""))
        if header and has_rows and file.size:  # those in /proc only seem to be empty
            return replace(file, columns=header), []
        from loader.refusals.files import of_header

        return file, of_header(file, table) or [Problem(file.name, "the header is not the one that is declared", 1)]
    except UNREADABLE as error:
        return file, [Problem(file.name, unreadable(error))]


def _header(line: bytes, table: Table) -> tuple[str, ...]:
    """The names in a header that is as it is declared; none in another."""
    known = {name: column for column in table.columns for name in column.names}
    with suppress(UnicodeDecodeError, csv.Error):
        text = line.decode(table.form.encoding).removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")
        names = next(csv.reader([text], delimiter=table.form.delimiter, quotechar=table.form.quote), [])
        there = [known[name].name for name in names if name in known]
        is_whole = all(column.may_be_missing or column.name in there for column in table.columns)
        if is_whole and len(names) == len(set(there)) and well_quoted(table.form).fullmatch(text):
            return tuple(names)
    return ()
