"""Files that PostgreSQL would not read as the contract says, and problems whose line is hard to tell."""

from __future__ import annotations

import gzip
import os
from itertools import product
from pathlib import Path

import pytest

from loader.contract.tables import COMMAS, CsvForm
from loader.database import Database
from loader.delivery import Unfit, causes, checked, csv_contract, records
from tests.reading import read

HEADER = b"user_id,number,amount,flag,day,note\n"

TAKEN: dict[str, tuple[bytes, list[str | None]]] = {
    "a line \\. within quotes": (b'"x\n\\.\ny",1,2,t,2024-01-31,\n', ["x\n\\.\ny"]),
    "values that end in \\.": (b"a,1,2,t,2024-01-31,b\\.\nb,1,2,t,2024-01-31,\\.\n", ["a", "b"]),
    "a value that begins with \\.": (b"\\.x,1,2,t,2024-01-31,\n", ["\\.x"]),
    "a quoted \\.": (b'"\\.",1,2,t,2024-01-31,"\\."\n', ["\\."]),
    "what looks like a date within quotes": (b'"a,2024-13-13,b",1,2,t,"2024-01-31","\n,,,,now"\n', ["a,2024-13-13,b"]),
    "quotes at the ends of quotes": (b'"""a""",1,2,t,2024-01-31,""""\n', ['"a"']),
    "no line end at the end": (b'"a",1,2,t,2024-01-31,"b"', ["a"]),
    "nothing but quotes": (b'"","","","","",""\n', [None]),
}
"""Name -> the rows of a file, and the user_ids that land."""


@pytest.mark.parametrize("chunk", [3, 1 << 18, *(pytest.param(size, marks=pytest.mark.long) for size in (4, 5, 7, 11))])
@pytest.mark.parametrize(("rows", "users"), TAKEN.values(), ids=TAKEN)
def test_taken(csv_database: Database, tmp_path: Path, rows: bytes, users: list[str], chunk: int) -> None:
    reading = read(csv_database, tmp_path, HEADER + rows, chunk)
    if reading.on_citus and None in users:
        assert [problem.reason for problem in reading.problems] == ["is empty"]  # without a key, it belongs to no node
        return
    assert reading.taken, reading.problems
    assert [row["user_id"] for row in reading.rows] == users


def test_a_long_text_beside_dates_is_taken(csv_database: Database, tmp_path: Path) -> None:
    text = "x,\n" * 300_000
    reading = read(csv_database, tmp_path, HEADER + f'"{text}",1,2,t,2024-01-31,\n'.encode())
    assert [row["user_id"] for row in reading.rows] == [text]


GOOD = b"u,1,2,t,2024-01-31,\n"
ISO = "not a date like 2024-01-31"
QUOTE = "a quote within a field"
REFUSED: dict[str, tuple[bytes, list[tuple[int, str]]]] = {
    "a date after commas in quotes": (b'"a,,,,2024-01-31,b",1,2,t,yesterday,\n', [(2, ISO)]),
    "quotes within a field": (b'5" x 6",1,2,t,2024-01-31,\n', [(2, QUOTE)]),
    "a single quote within a field": (b'u,1,2,t,2024-01-31,5" wide\n' + GOOD + b"u,x,2,t,,\n", [(2, QUOTE), (4, "not a whole")]),
    "something after a quoted field": (GOOD + b'"a"b,1,2,t,2024-01-31,\n', [(3, QUOTE)]),
    "quotes that hide a date": (b'a"x,,,,2024-01-31,y"b,1,2,t,yesterday,\n', [(2, "11 fields"), (2, QUOTE)]),
    "NaN between blanks": (b'u,1,"\tNaN\n",t,2024-01-31,\n', [(2, "NaN and infinity")]),
    "infinity after a line end": (b'u,1,"\n-inf",t,2024-01-31,\n' + GOOD + b"u,1,+Infinity,,,\n", [(2, "NaN"), (5, "NaN")]),
    "a line \\.": (GOOD + b"\\.\n" + GOOD + b"u,x,2,t,,\n", [(3, "a line \\."), (5, "not a whole number")]),
    "every other line end": (GOOD + GOOD[:-1] + b"\r\n" + GOOD + GOOD[:-1] + b"\r\n", [(3, "ends in CRLF"), (5, "ends in CRLF")]),
    "carriage returns alone": (GOOD[:-1] + b"\r" + GOOD + b"u,x,2,t,,\n", [(2, "ends in CR alone"), (3, "not a whole number")]),
    "a carriage return within quotes": (b'"a\rb",1,2,t,2024-01-31,\nu,x,2,t,,\n', [(3, "not a whole number")]),
    "an empty line": (GOOD + b"\n" + b"u,x,2,t,,\n", [(3, "an empty line"), (4, "not a whole number")]),
    "a quote without an end": (GOOD + b'"u,1,2,t,2024-01-31,\n' + GOOD * 3, [(3, "is never closed. What follows was not read")]),
    "NUL beside quotes": (b'"u\0","1",2,t,2024-01-31,\n', [(2, "holds a NUL byte")]),
}  # fmt: skip
"""Name -> the rows of a file, and the line and a part of the reason of each problem that is reported."""


@pytest.mark.parametrize("chunk", [5, 1 << 18])
@pytest.mark.parametrize(("rows", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(csv_database: Database, tmp_path: Path, rows: bytes, said: list[tuple[int, str]], chunk: int) -> None:
    reading = read(csv_database, tmp_path, HEADER + rows, chunk)
    assert not reading.taken
    reported = sorted((problem.line, problem.reason) for problem in reading.problems)
    assert len(reported) == len(said), reported
    for (line, reason), (line_said, part) in zip(reported, said, strict=True):
        assert (line, part in reason) == (line_said, True), reported


def test_a_date_after_a_quoted_line_end_is_seen(csv_database: Database, tmp_path: Path) -> None:
    header = b"user_id,note,day,number,amount,flag\n"
    reading = read(csv_database, tmp_path, header + b'u,"a\nb",yesterday,,2,t\n')
    assert [(problem.line, problem.value) for problem in reading.problems] == [(2, "yesterday")]


def test_the_end_of_a_chunk_is_not_that_of_a_line(csv_database: Database, tmp_path: Path) -> None:
    row = b"u,1,2,t,2024-01-31,\\.\n"
    assert read(csv_database, tmp_path, HEADER + row + GOOD, chunk=len(HEADER + row)).taken


def test_lines_that_end_in_carriage_returns_are_refused(csv_database: Database, tmp_path: Path) -> None:
    """PostgreSQL accepts them; editors, and the code that checks dates, see no line end there."""
    reading = read(csv_database, tmp_path, (HEADER + b"u,1,2,t,yesterday,\n").replace(b"\n", b"\r"))
    assert [problem.line for problem in reading.problems] == [1]
    assert "end in CR alone" in reading.problems[0].reason


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(b"x" * 3000, id="a line without an end"),
        pytest.param(b'u,1,2,t,2024-01-31,"' + b"x" * 3000 + b'"\n', id="a long field"),
        pytest.param(b'"\n",' * 1000, id="fields without an end"),
        pytest.param(b'u,1,2,t,2024-01-31,"\n' + GOOD * 200, id="a quote without an end"),
    ],
)
def test_a_record_has_an_end(
    csv_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: bytes
) -> None:
    """The loader keeps one record in memory, so it stops reading a file that seems to be one endless record."""
    monkeypatch.setattr(csv_contract, "RECORD_LIMIT", 2000)
    monkeypatch.setattr(records, "RECORD_LIMIT", 2000)
    reading = read(csv_database, tmp_path, HEADER + GOOD + rows, chunk=500)
    assert not reading.to_the_end
    [problem] = reading.problems
    assert problem.line == 3
    assert "has more than 2,000 bytes" in problem.reason


@pytest.mark.parametrize("before", [0, 1, 7, 23, 30])
def test_the_limit_of_a_record_is_the_same_wherever_it_begins(
    csv_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(csv_contract, "RECORD_LIMIT", 1000)
    monkeypatch.setattr(records, "RECORD_LIMIT", 1000)
    for size, is_quoted in product((1000, 1001), (False, True)):
        start, end = b"u,1,2,t,2024-01-31,", b"\n"
        note = b"x" * (size - len(start) - len(end))
        record = start + (b'"' + note[2:] + b'"' if is_quoted else note) + end
        reading = read(csv_database, tmp_path, HEADER + GOOD * before + record + GOOD * 40, chunk=900)
        assert [(problem.line, problem.column) for problem in reading.problems] == (
            [(before + 2, None)] if size > 1000 else []
        )


def test_a_file_that_is_cut_off_is_read_up_to_there(csv_database: Database, tmp_path: Path) -> None:
    rows = [b"u%d,1,2,t,2024-01-31,%s\n" % (number, os.urandom(32).hex().encode()) for number in range(40_000)]
    packed = gzip.compress(HEADER + rows[0].replace(b"1", b"x", 1) + b"".join(rows[1:]))
    reading = read(csv_database, tmp_path, packed[: len(packed) // 2], name="things.csv.gz")
    wrong, cut = reading.problems
    assert (wrong.line, wrong.value) == (2, "x")
    assert (cut.file, "cannot be read" in cut.reason, "What follows was not read" in cut.reason) == (
        "things.csv.gz",
        True,
        True,
    )
    assert cut.line is not None
    assert cut.line > 10_000
    assert len(reading.rows) == cut.line - 2
    assert not reading.to_the_end


def test_a_header_of_many_columns_is_looked_at_once(csv_database: Database, tmp_path: Path) -> None:
    """Comparing each of 100,000 columns with every other would take hours."""
    names = b",".join(b"c%d" % number for number in range(100_000))
    reading = read(csv_database, tmp_path, HEADER[:-1] + b"," + names + b"\n" + GOOD)
    assert [problem.reason for problem in reading.problems] == ["100,000 unknown columns, like c0, c1, c10"]
    [problem] = read(csv_database, tmp_path, HEADER[:-1] + b"," + b"x" * 200_000 + b"\n" + GOOD).problems
    assert problem.column == f"{'x' * 200}..."


@pytest.mark.parametrize("header", [b"", b"user_id", b"day,user_id", b"user_id,day,day", b"user_id,Day", b"\xff,day"])
def test_rows_below_another_header_than_was_looked_at_do_not_land(header: bytes) -> None:
    """This catches a file that is rewritten with the same size and times, between two ticks of the clock."""
    columns = {"user_id": "text", "day": "date"}
    for good in (b"user_id,day", b'\xef\xbb\xbf"user_id",day\r'):
        assert b"".join(checked(iter([good, b"\na,2024-01-31\n"]), columns, COMMAS, "day")).endswith(b"31\n")
    with pytest.raises(Unfit):
        list(checked(iter([header, b"\na,2024-01-31\n"]), columns, COMMAS, "day"))


def test_a_column_under_another_name(csv_database: Database, tmp_path: Path) -> None:
    """It lands in its column and is reported under the file's name for it; a second name for it is refused."""
    header = b'"Amount, in EUR",user_id,number,flag\n'
    reading = read(csv_database, tmp_path, header + b"1.50,a,1,t\n")
    assert [(row["user_id"], row["amount"]) for row in reading.rows] == [("a", "1.50")]
    reading = read(csv_database, tmp_path, header + b"1.50,a,1,t\nx,b,1,t\n")
    assert [(problem.line, problem.column, problem.value) for problem in reading.problems] == [
        (3, "Amount, in EUR", "x")
    ]
    reading = read(csv_database, tmp_path, header.replace(b",number", b",amount,number") + b"1.50,a,1,1,t\n")
    assert [problem.reason for problem in reading.problems] == [
        "the column is there under 2 names: amount, Amount, in EUR"
    ]
    reading = read(csv_database, tmp_path, header.replace(b"EUR", b"EUR ") + b"1.50,a,1,t\n")
    assert [(problem.reason, problem.column) for problem in reading.problems] == [(causes.BLANK[0], "amount")]
    reading = read(csv_database, tmp_path, header.replace(b"EUR", b"EUF") + b"1.50,a,1,t\n")
    assert [problem.reason for problem in reading.problems] == ["unknown column", "the column is missing"]


def test_missing_numbers_in_many_columns_do_not_take_for_ever() -> None:
    """A record cut off by the end of a chunk could match in one way only, so the pattern fails at once."""
    columns = {**{f"n{number}": "int" for number in range(40)}, **{f"d{number}": "date" for number in range(40)}}
    form = CsvForm(nulls=("NA", "N_A", "N_A", "0000-00-00", "no", "no"))
    row = ",".join([*["NA"] * 39, "N_A", *["0000-00-00"] * 20, *["no"] * 20]).encode() + b"\n"
    text = ",".join(columns).encode() + b"\n" + row * 3
    chunks = (text[place : place + 150] for place in range(0, len(text), 150))
    assert b"".join(checked(chunks, columns, form, "n0")).count(b"\n") == 4
