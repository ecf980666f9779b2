"""Files made up by hypothesis: the values in a file land, and what is wrong is reported."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loader.database import Database
from tests.fuzzing import fuzz
from tests.judge import WRONG, judged
from tests.reading import KINDS, Row, read

BOM = b"\xef\xbb\xbf"
# ---- Files made of fields whose values are known, so that the test needs no reader of its own


@dataclass(frozen=True)
class Field:
    """The bytes of a field, its value (WRONG if it has none), and whether it has quotes where none may be."""

    raw: bytes
    value: Any
    stray: bool = False


GOOD: dict[str, st.SearchStrategy[tuple[str, Any]]] = {
    "text": st.text(st.sampled_from('ab,"\n\r\\. é漢\t\x01'), max_size=6).map(lambda text: (text, text or None)),
    "int": st.one_of(
        st.integers(-(2**31), 2**31 - 1).map(lambda number: (str(number), number)),
        st.sampled_from([("", None), ("+5", 5), (" 7\t", 7), ("007", 7), ("8\n", 8)]),
    ),
    "numeric": st.one_of(
        st.from_regex(r"-?[0-9]{1,40}(\.[0-9]{1,40})?", fullmatch=True).map(lambda text: (text, Decimal(text))),
        st.sampled_from(
            [("", None), (" 1.50", Decimal("1.50")), (".5", Decimal("0.5")), ("1.", Decimal(1)), ("1e3", Decimal(1000)),
             ("1E-5", Decimal("0.00001")), ("-0", Decimal(0))]
        ),
    ),
    "boolean": st.sampled_from(
        [("", None), *((word, True) for word in ("True", "true", "T", "t", "YES", "y", "on", "1")), (" tru\n", True),
         *((word, False) for word in ("False", "FALSE", "f", "No", "n", "off", "0"))]
    ),
    "date": st.one_of(st.dates().map(lambda date: (date.isoformat(), date.isoformat())), st.just(("", None))),
}  # fmt: skip
BAD = {
    "int": ["x", "1.5", "2147483648", "-2147483649", "\uff15", "1 2", "NaN", "1__0", "--5", " ", "'1'", "1e3", "0xG",
            "0x1F", "1_000", "-0b1", "\v0O7"],
    "numeric": ["x", "12,50", "NaN", "\tnan", "-Infinity", "inf\n", "+inf", "1e131072", "1e-16384", "\uff11", "1e",
                "1e100", "-1.8e308", "1e-301", "0x1F", "1_0.5", "+0B1"],
    "boolean": ["maybe", "2", "o", "yess", "00", "true false", "\uff54"],
    "date": ["yesterday", "now", "05/01/2024", "2024-1-5", "2024-02-30", "0000-01-01", " 2024-01-01", "2024-01-01 BC",
             "20240101", "infinity", "\uff12024-01-01", "2024-01-01\n", "J2451187", "2024-01-01 00:00", "epoch"],
}  # fmt: skip
NOT_TEXT = [b"\xff", b"a\0", b"\xed\xa0\x80", b'"\xc3"', b'"\0,\n"', b"\xf5\x80\x80\x80", b"\x80"]
STRAY_QUOTE = [b'a"b', b'5" x 6"', b'"a"b', b'""b', b'a""b', b'"a" ', b' "a"', b'"a""b"c']


def quoted(text: str) -> bytes:
    """The text as a quoted field."""
    return b'"' + text.replace('"', '""').encode() + b'"'


def written(draw: st.DrawFn, text: str) -> bytes:
    """The text as a field: quoted if it must be, and perhaps if it need not."""
    return quoted(text) if re.search(r'[,"\r\n]', text) or draw(st.booleans()) else text.encode()


@st.composite
def fields(draw: st.DrawFn, kind: str, *, sound: bool) -> Field:
    """A field of a column of that type."""
    if not sound:
        match draw(st.sampled_from(["not text", "stray quote", "bad value", "bad value"])):
            case "stray quote":
                return Field(draw(st.sampled_from(STRAY_QUOTE)), WRONG, stray=True)
            case "bad value" if kind in BAD:
                text = draw(st.sampled_from(BAD[kind]))
                return Field(written(draw, text), WRONG)
            case _:
                return Field(draw(st.sampled_from(NOT_TEXT)), WRONG)
    text, value = draw(GOOD[kind])
    return Field(written(draw, text), value)


@dataclass(frozen=True)
class File:
    """A file, its rows, and line -> what is wrong there: columns, or None for the line as a whole."""

    data: bytes
    rows: list[Row]
    wrong: dict[int, set[str | None]]


@st.composite
def made_files(draw: st.DrawFn) -> File:
    """A header with the columns in any order and up to eight records, all of them sound or some not."""
    optional = draw(st.sampled_from([[], ["note"], ["day"], ["note", "day"]]))
    columns = draw(st.permutations([name for name in KINDS if name not in {"note", "day"}] + optional))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    names = [quoted(name) if draw(st.booleans()) else name.encode() for name in columns]
    data = draw(st.sampled_from([b"", BOM])) + b",".join(names) + end
    rows: list[Row] = []
    wrong: dict[int, set[str | None]] = {}
    sound = draw(st.booleans())
    for number in range(draw(st.integers(1, 8))):
        line = data.count(b"\n") + 1
        shape = "whole" if sound or number == 0 else draw(st.sampled_from(["whole"] * 12 + SHAPES))
        record = [draw(fields(KINDS[name], sound=sound or draw(st.integers(0, 5)) > 0)) for name in columns]
        by_name = dict(zip(columns, record, strict=True))
        raw = [field.raw for field in record]
        match shape:
            case "short":
                raw.pop()
                del by_name[columns[-1]]
            case "long":
                raw.append(b"")
            case "blank" | "end of data":
                raw, by_name = ([] if shape == "blank" else [b"\\."]), {}
        at_fault: set[str | None] = {
            name for name, f in by_name.items() if f.value is WRONG and not (f.stray and KINDS[name] == "text")
        }
        if shape != "whole" or any(field.stray for field in by_name.values()):
            at_fault.add(None)
        rows.append({**dict.fromkeys(KINDS), **{name: field.value for name, field in by_name.items()}})
        data += b",".join(raw) + (OTHER_END[end] if shape == "other end" else end)
        if at_fault:
            wrong[line] = at_fault
    if draw(st.booleans()) and data.endswith(end) and not wrong.get(data.count(b"\n")):
        data = data.removesuffix(end)
    return File(data, rows, wrong)


SHAPES = ["short", "long", "blank", "end of data", "other end"]
OTHER_END = {b"\n": b"\r\n", b"\r\n": b"\n"}


@fuzz(short=60, long=1500)
@given(file=made_files(), chunk=st.sampled_from([5, 16, 61, 1 << 18]))
def test_what_a_file_says_lands_and_what_is_wrong_is_reported(
    csv_database: Database, tmp_path: Path, tally: Counter[str], file: File, chunk: int
) -> None:
    reading = read(csv_database, tmp_path, file.data, chunk)
    tally["CSV files made of known fields"] += 1
    rows = [row for row in file.rows if not (reading.on_citus and row["user_id"] is None)]
    assert reading.taken == (not file.wrong and rows == file.rows)
    if reading.taken:
        assert [same(row) for row in reading.rows] == [same(row) for row in rows]
        return
    tally["of them not taken"] += 1
    assert reading.to_the_end
    assert reading.problems
    reported: dict[int | None, set[str | None]] = defaultdict(set)
    for problem in reading.problems:
        if not (reading.on_citus and problem.reason == "is empty"):
            reported[problem.line].add(problem.column)
    assert reported == file.wrong
    assert len(reading.rows) == len(rows)
    for row, expected in zip(reading.rows, rows, strict=True):
        for name, value in expected.items():
            if value is not WRONG:
                assert same(row)[name] == same(expected)[name]
            elif KINDS[name] != "text":
                assert row[name] is None


def same(row: Row) -> Row:
    """The row in a form that is equal only if every digit is."""
    amount = row["amount"] if row["amount"] in {None, WRONG} else Decimal(row["amount"])
    digits = max(0, -int(amount.as_tuple().exponent)) if isinstance(amount, Decimal) else None
    return {**row, "amount": (amount, digits)}


# ---- Anything that looks a little like CSV, against Python's csv module

TOKENS = [
    b"a", b"1", b"-2.5", b",", b",", b'"', b'""', b"\n", b"\n", b"\r\n", b"\r", b"\\.", b"\\.\n", b"\0", b"\xff",
    "é".encode(), "\uff11\u00a0".encode(), b" ", b"\t", BOM, b"2024-01-31", b"yesterday", b"NaN", b"True", b"no",
    b"x" * 300, b"u,1,2.50,True,2024-01-31\n", b'"u,""\n",1,2.50,True,2024-01-31\n', b"u,1,2.50,True,2024-01-31\r\n",
]  # fmt: skip
HEADER = b"user_id,number,amount,flag"
DATED = HEADER + b",day"


@st.composite
def soups(draw: st.DrawFn) -> bytes:
    """A header, then rows with tokens inserted at random, or tokens only."""
    header, dates = draw(st.sampled_from([(DATED, [b",2024-01-31", b',"2024-01-31"']), (HEADER, [b"", b""])]))
    data = header + draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]))
    plain, quoted = b"u,1,2.50,True" + dates[0] + b"\n", b'"u","1","","no"' + dates[1] + b"\r\n"
    data += draw(st.sampled_from([b"", plain * 4, quoted * 4]))
    for token in draw(st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=3)), min_size=1, max_size=25)):
        place = draw(st.sampled_from([len(data), draw(st.integers(len(header), len(data)))]))
        data = data[:place] + token + data[place:]
    return data


@fuzz(short=60, long=1500)
@given(data=soups(), chunk=st.sampled_from([5, 61, 1 << 18]))
def test_whatever_looks_like_csv_is_read_as_python_reads_it(
    csv_database: Database, tmp_path: Path, tally: Counter[str], data: bytes, chunk: int
) -> None:
    reading = read(csv_database, tmp_path, data, chunk)
    tally["CSV files of any bytes"] += 1
    if reading.taken:
        records = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = next(records)
        rows = [dict(zip(header, record, strict=True)) for record in records]
        expected = [{name: judged(kind, row.get(name)) for name, kind in KINDS.items()} for row in rows]
        assert [same(row) for row in reading.rows] == [same(row) for row in expected]
        return
    assert reading.problems
    last = data.count(b"\n") + 1
    assert all(problem.line is not None and 1 <= problem.line <= last for problem in reading.problems), reading.problems
    if reading.to_the_end:
        records_at = list(read_loosely(data))
        kinds = [kind for name, kind in KINDS.items() if name != "note" and (name != "day" or data.startswith(DATED))]
        assert {line for line, record in records_at if is_wrong(record, kinds)} <= reading.lines
        assert len(reading.rows) == len(records_at) or (reading.on_citus and len(reading.rows) < len(records_at))


def read_loosely(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """The records after the header, each with its line; only a line feed ends a line for an editor."""
    text = data.decode("utf-8-sig", "surrogateescape").replace("\0", "\udc00")
    pieces = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)
    line = 1

    def counted() -> Iterator[str]:
        nonlocal line
        for piece in pieces:
            line += piece.endswith("\n")
            yield piece

    records = csv.reader(counted())
    next(records)
    while True:
        begins = line
        record = next(records, None)
        if record is None:
            return
        yield begins, record


def is_wrong(record: list[str], kinds: Sequence[str]) -> bool:
    """Whether a record has too many or too few fields, or a wrong value."""
    if len(record) != len(kinds):
        return True
    return any(judged(kind, value) is WRONG for kind, value in zip(kinds, record, strict=True))
