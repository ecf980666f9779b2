"""Other forms of files: delimiter, quote, encoding, texts that stand for null, names, several files of one table."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from loader.contract.tables import CsvForm, Encoding, Table
from loader.database import Database
from loader.words import as_text
from tests.conftest import Streamflow, rejects_of, run_copy
from tests.files import copy_month, set_value
from tests.fuzzing import fuzz
from tests.reading import TABLE, read

FORM = """
            primary_key: user_id
            customers: true
            slowly_changing: true
            files: "customers_*.csv"
            delimiter: ";"
            quote: "'"
            encoding: windows-1252
            nulls: ["NULL", "-"]"""


def in_three_files(folder: Path) -> None:
    """Write the users of a month into three files of another form; the second has its columns in reverse order."""
    with (folder / "users.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    (folder / "users.csv").unlink()
    rows = [[field or ("NULL" if place % 2 else "-") for field in row] for place, row in enumerate(rows)]
    backwards = [row[::-1] for row in [header, *rows[20:50]]]
    for name, some in (("c", [header, *rows[50:]]), ("a", [header, *rows[:20]]), ("b", backwards)):
        with (folder / f"customers_{name}.csv").open("w", newline="", encoding="windows-1252") as stream:
            how: Any = csv.QUOTE_ALL if name == "a" else csv.QUOTE_MINIMAL
            csv.writer(stream, delimiter=";", quotechar="'", quoting=how).writerows(some)


def test_a_part_with_other_capitals_is_not_left_out(csv_database: Database, tmp_path: Path) -> None:
    table = TABLE.model_copy(update={"files": "things_*.csv"})
    (tmp_path / "month_000").mkdir()
    (tmp_path / "month_000" / "Things_b.CSV").write_text("user_id\n")
    rows = b"user_id,number,amount,flag\nu,1,2,t\n"
    [problem] = read(csv_database, tmp_path, rows, table=table, name="things_a.csv").problems
    assert (problem.file, problem.reason) == ("Things_b.CSV", "is not named like things_*.csv: rename it")


def test_a_mark_of_utf_8_where_another_encoding_is_declared(csv_database: Database, tmp_path: Path) -> None:
    table = TABLE.model_copy(update={"form": CsvForm(encoding="windows-1252")})
    [problem] = read(csv_database, tmp_path, b"\xef\xbb\xbfuser_id,number,amount,flag\nu,1,2,t\n", table=table).problems
    assert problem.reason == "encoded as UTF-8, not as windows-1252"


def test_a_table_in_a_form_of_its_own(
    january: Streamflow, undisturbed: Any, months: Path, copy: Path, tmp_path: Path
) -> None:
    """A month with its users in three files gives the same tables; each problem names the file that has it."""
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    declared = "\n            primary_key: user_id\n            customers: true\n            slowly_changing: true"
    sources.write_text(sources.read_text().replace(declared, FORM, 1))
    folder = copy_month(months, "001", tmp_path)
    in_three_files(folder)
    second, third = folder / "customers_b.csv", folder / os.fsdecode(b"customers_\xff.csv")
    (folder / "customers_c.csv").rename(third)
    sound = second.read_bytes(), third.read_bytes()

    first_user = (folder / "customers_a.csv").read_text().splitlines()[1].split(";")[0].strip("'")
    second.write_bytes(sound[0] + "False;False;False;Other;'2023-\n01';zoë\r\n".encode("windows-1252"))
    third.write_bytes(sound[1] + f"{first_user};-;Other;-;-;-\r\n".encode())
    set_value(folder / "labels.csv", 3, "user_id", "nobody")
    labels = (months / "month_001" / "labels.csv").read_bytes()
    refused = run_copy(copy, january, "check", "001", "--data-dir", str(tmp_path))
    assert refused.returncode == 1, refused
    rejects = sorted(rejects_of(january, "001"), key=lambda row: row["file"])
    found = [(row["file"], row["line"], row["column"], row["value"]) for row in rejects]
    assert found == [
        ("customers_\\xff.csv", "7", "user_gender", "Other"),
        ("customers_\\xff.csv", "7", "user_id", first_user),
        ("customers_b.csv", "32", "signup_date", "2023-\n01"),
        ("customers_b.csv", "32", "user_gender", "Other"),
        ("labels.csv", "3", "user_id", "nobody"),
    ]
    assert rejects[1]["reason"] == "second row with this user_id, first on line 2 of customers_a.csv"
    assert rejects[4]["reason"] == "no such user_id in customers_*.csv"

    second.write_bytes(sound[0])
    third.write_bytes(sound[1])
    (folder / "labels.csv").write_bytes(labels)
    taken = run_copy(copy, january, "ingest", "001", "--data-dir", str(tmp_path))
    assert taken.returncode == 0, taken.stderr
    assert january.state() == undisturbed
    shown = january.ok("status", "--hashes").out
    for path in folder.glob("customers_*.csv"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        name = re.escape(as_text(path.name))
        assert re.search(rf"001 +{name} +\d+ +{path.stat().st_size:,} +{digest}", shown), shown
    again = run_copy(copy, january, "ingest", "001", "--data-dir", str(tmp_path))
    assert "from these same rows: nothing to do" in again.stdout
    assert "landing" not in again.stderr


@pytest.mark.long
def test_the_same_bytes_that_are_read_otherwise_since_are_other_rows(
    january: Streamflow, months: Path, copy: Path
) -> None:
    """They are refused; a restatement corrects the month, and from then on they are the same rows."""
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    declared = "\n            primary_key: user_id\n            slowly_changing: true\n            references: users"
    assert declared in sources.read_text()
    sources.write_text(sources.read_text().replace(declared, f"{declared}\n            nulls: [DSL]"))
    known = january.value("select count(*) from subscriptions_snapshots where net_service = 'DSL'")
    before, month = january.state(), ("000", "--data-dir", str(months))
    refused = run_copy(copy, january, "ingest", *month)
    assert refused.returncode == 1
    assert f"subscriptions.csv  rows that differ from history: {known}" in refused.stderr
    assert january.state() == before
    restated = run_copy(copy, january, "ingest", *month, "--restate", "--reason", "DSL is how they write unknown")
    assert restated.returncode == 0, restated.stderr
    assert january.value("select count(*) from subscriptions_snapshots where net_service = 'DSL'") == 0
    assert january.rows("select table_name from ops.restatements") == [("subscriptions",)]
    assert "from these same rows: nothing to do" in run_copy(copy, january, "ingest", *month).stdout
    january.ok("verify")


def test_what_has_bytes_read_otherwise() -> None:
    """Another form does, and so does text as the type of a column; a wider type reads the same values."""
    [number] = [column for column in TABLE.columns if column.data_type == "int"]
    ways = [TABLE.read_as(["user_id", "number"]), TABLE.model_copy(update={"form": CsvForm(nulls=("-",))}).read_as([])]
    for kind in ("bigint", "text"):
        others = [column for column in TABLE.columns if column is not number]
        retyped = [*others, number.model_copy(update={"data_type": kind})]
        ways.append(TABLE.model_copy(update={"columns": retyped}).read_as(["number", "user_id"]))
    first, nulls, wider, text = ways
    assert wider == first
    assert len({first, nulls, text}) == 3


FORMS = st.builds(
    CsvForm,
    delimiter=st.sampled_from([",", ";", "\t", "|", "^"]),
    quote=st.sampled_from(['"', "'"]),
    encoding=st.sampled_from(["utf-8", "iso-8859-15", "windows-1252"]),
    nulls=st.sampled_from([(), ("NULL",), ("NA", "\\N", "(null)")]),
)


@fuzz(short=25, long=600)
@given(
    form=FORMS,
    end=st.sampled_from(["\n", "\r\n"]),
    users=st.lists(
        st.text("ab,;|^'\"\n\t. €Näé\\", max_size=6).filter(lambda text: text != "\\."), min_size=1, max_size=6
    ),
    data=st.data(),
)
def test_what_is_written_in_a_form_is_read_in_it(
    csv_database: Database, tmp_path: Path, tally: Counter[str], form: CsvForm, end: str, users: list[str], data: Any
) -> None:
    header = ["user_id", "number", "day", "amount", "flag"]
    rows = [[user, *data.draw(st.sampled_from([["5", "2024-01-31"], ["", ""]])), "", ""] for user in users]
    stream = io.StringIO()
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(stream, delimiter=form.delimiter, quotechar=form.quote, lineterminator=end, quoting=quoting)
    marks = ["", *form.nulls]
    writer.writerows([header, *([field or data.draw(st.sampled_from(marks)) for field in row] for row in rows)])
    reading = read(
        csv_database, tmp_path, stream.getvalue().encode(form.encoding), 7, TABLE.model_copy(update={"form": form})
    )
    tally["CSV files in another form"] += 1
    meant = [
        [None if user in marks else user, int(number) if number else None, day or None]
        for user, number, day, *_ in rows
    ]
    can_land = [row for row in meant if row[0] is not None or not reading.on_citus]
    assert reading.taken == (can_land == meant), reading.problems
    assert len(reading.problems) == len(meant) - len(can_land)
    assert [[row["user_id"], row["number"], row["day"]] for row in reading.rows] == can_land


def test_every_encoding_is_one_that_server_and_python_know(csv_database: Database) -> None:
    """The server reads each byte that Python can decode as the same character."""
    with csv_database.connect() as connection:
        for encoding in get_args(Encoding):
            data = bytes(range(1, 128 if encoding == "utf-8" else 256))
            text = data.decode(encoding, "ignore")
            query = "select convert_from(%s, %s)"
            assert connection.execute(query, [text.encode(encoding), encoding]).fetchone() == (text,), encoding


UNSOUND = [
    {"delimiter": "ab"}, {"delimiter": "x"}, {"delimiter": '"'}, {"delimiter": "\\"}, {"quote": "x"},
    {"encoding": "utf-16"},
    {"nulls": [""]}, {"nulls": "a,b"}, {"nulls": "\\."}, {"nulls": "n\nn"}, {"files": "../*.csv"},
]  # fmt: skip


@pytest.mark.parametrize("meta", UNSOUND, ids=repr)
def test_forms_that_cannot_be(meta: dict[str, Any]) -> None:
    raw = {
        "name": "t",
        "config": {"meta": {"primary_key": "a", **meta}},
        "columns": [{"name": "a", "data_type": "text"}],
    }
    with pytest.raises(ValidationError) as refused:
        Table.model_validate(raw)
    [error], [name] = refused.value.errors(), meta
    assert name in f"{error['loc']} {error['msg']}"
