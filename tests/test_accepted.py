"""Accepted variants of the files: they give the same tables as the files that the exports write."""

from __future__ import annotations

import csv
import gzip
import shutil
import zipfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from tests.conftest import TABLES, Streamflow
from tests.files import Rows, copy_month, edit, set_value, value_at
from tests.test_bad_input import Spoil, each, replace


def mark_byte_order(folder: Path) -> None:
    """Put a byte-order mark before the header."""
    (folder / "users.csv").write_bytes(b"\xef\xbb\xbf" + (folder / "users.csv").read_bytes())


def strip_the_end(folder: Path) -> None:
    """Remove the newline at the end."""
    path = folder / "usage_agg_30d.csv"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))


def quote(folder: Path) -> None:
    """Quote every field, the empty ones too."""
    path = folder / "users.csv"
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    with path.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(rows)


def reverse(folder: Path) -> None:
    """Reverse the order of the columns."""

    def change(rows: Rows) -> None:
        for row in rows:
            row.reverse()

    edit(folder / "users.csv", change)


def spell(true: str, false: str) -> Spoil:
    """Replace True and False by other words in turn; each argument has its words separated by blanks."""
    words = {"True": cycle(true.split()), "False": cycle(false.split())}

    def change(rows: Rows) -> None:
        for row in rows[1:]:
            row[1] = next(words[row[1]])

    return lambda folder: edit(folder / "labels.csv", change)


def pack(folder: Path, which: str = "*") -> None:
    """Replace the files that match `which` by compressed ones."""
    for path in list(folder.glob(which)):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def pack_into_zip(folder: Path) -> None:
    """Replace the folder by an archive of compressed files."""
    pack(folder)
    to_zip(folder)


def to_zip(folder: Path) -> None:
    """Replace the folder by an archive of it."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"{folder.name}/{path.name}")
    shutil.rmtree(folder)


def add_a_note(folder: Path) -> None:
    """Add an unknown file."""
    (folder / "notes.txt").write_text("x")


OF_ONE_FILE: dict[str, Spoil] = {
    "other column order": reverse,
    "every field quoted": quote,
    "byte-order mark": mark_byte_order,
    "CRLF": replace("subscriptions.csv", b"\n", b"\r\n", -1),
    "no newline at the end": strip_the_end,
    "other words for true and false": spell("Yes t 1", "no F 0"),
    "gzip of one file": lambda folder: pack(folder, "support_agg_90d.csv"),
    "an unknown file beside them": add_a_note,
}
"""Every run applies OF_ONE_FILE to one month, all at once; `make test-long` also applies each variant alone."""
ACCEPTED = [
    pytest.param(each(*OF_ONE_FILE.values()), id="all that a file may be"),
    pytest.param(pack_into_zip, id="gzip within zip"),
    *(pytest.param(change, id=name, marks=pytest.mark.long) for name, change in OF_ONE_FILE.items()),
    pytest.param(pack, id="gzip", marks=pytest.mark.long),
    pytest.param(to_zip, id="zip", marks=pytest.mark.long),
]


@pytest.mark.parametrize("change", ACCEPTED)
def test_accepted_variants_give_the_same_tables(
    january: Streamflow, new_database: Callable[[], Streamflow], months: Path, tmp_path: Path, change: Spoil
) -> None:
    expected = january.state()
    folder = copy_month(months, "000", tmp_path)
    change(folder)
    varied = new_database()
    varied.ok("ingest", "000", "--data-dir", tmp_path)
    assert varied.state() == expected


def test_quoted_commas_quotes_and_newlines_stay_as_they_are(
    streamflow: Streamflow, months: Path, tmp_path: Path
) -> None:
    folder = copy_month(months, "000", tmp_path)
    strange = 'a "quoted", comma\nand a newline'
    for table in TABLES:
        path = folder / f"{table}.csv"
        place = next(n for n, row in enumerate(path.read_text().splitlines(), 1) if n > 1)
        assert value_at(path, place, "user_id")
        set_value(path, place, "user_id", strange)
    streamflow.ok("ingest", "000", "--data-dir", tmp_path)
    assert streamflow.value("select count(*) from users where user_id = %s", strange) == 1
