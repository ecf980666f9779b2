"""Every way in which a delivery can be wrong: exit 1, the place and the reason, and nothing changed."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from loader.delivery import Problem
from loader.refusals import rejects
from tests.conftest import TABLES, Result, Streamflow, rejects_of
from tests.files import Rows, copy_month, edit, set_value

Spoil = Callable[[Path], object]


def put(name: str, line: int, column: str, value: str) -> Spoil:
    """Set a value."""
    return lambda folder: set_value(folder / name, line, column, value)


def replace(name: str, old: bytes, new: bytes, count: int = 1) -> Spoil:
    """Replace bytes."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes().replace(old, new, count))


def append(name: str, line: bytes) -> Spoil:
    """Add a line at the end."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + line)


def each(*spoils: Spoil) -> Spoil:
    """Do all of these."""
    return lambda folder: [spoil(folder) for spoil in spoils]


def header(name: str, change: Callable[[list[str]], object]) -> Spoil:
    """Change the header."""
    return lambda folder: edit(folder / name, lambda rows: change(rows[0]))


def double(name: str, value: Callable[[str], str]) -> Spoil:
    """Append a second row for the customer on line 4, with the id changed by `value`."""
    return lambda folder: edit(folder / name, lambda rows: rows.append([value(rows[3][0]), *rows[3][1:]]))


def shrink(folder: Path) -> None:
    """Leave 20 customers; the month before has 60."""
    for table in TABLES:
        edit(folder / f"{table}.csv", lambda rows: rows.__delitem__(slice(21, None)))


def explode(folder: Path) -> None:
    """Triple the customers."""
    for table in TABLES:
        edit(
            folder / f"{table}.csv",
            lambda rows: rows.extend([[f"{row[0]}-{n}", *row[1:]] for n in "ab" for row in rows[1:]]),
        )


def widen(folder: Path) -> None:
    """Add a column."""

    def change(rows: Rows) -> None:
        for row in rows:
            row.append("1")

    edit(folder / "labels.csv", change)


def as_folder(folder: Path) -> None:
    """Put a folder in place of a file."""
    (folder / "labels.csv").unlink()
    (folder / "labels.csv").mkdir()


HOSTILE = "'); drop table users; --"

BAD: dict[str, tuple[Spoil, list[str]]] = {
    "missing file": (lambda f: (f / "labels.csv").unlink(), ["labels.csv  the file is missing"]),
    "misspelt file": (lambda f: (f / "labels.csv").rename(f / "lables.csv"), ['labels.csv  the file is missing: did you mean "lables.csv"?']),
    "empty file": (lambda f: (f / "labels.csv").write_bytes(b""), ["labels.csv:1", "the file is empty"]),
    "header only": (lambda f: (f / "labels.csv").write_bytes(b"user_id,churn_label\r\n"), ["labels.csv:1", "no rows"]),
    "missing column": (header("labels.csv", lambda h: h.__setitem__(1, "x")), ["churn_label", "the column is missing. Have it exported, or declare it with `optional: true`"]),
    "unknown column": (
        widen,
        ["unknown column"],
    ),
    "misspelt column": (header("users.csv", lambda h: h.__setitem__(1, "Signup_Date ")), ['did you mean "signup_date"? Declare it']),
    "doubled column": (header("users.csv", lambda h: h.__setitem__(1, "user_gender")), ["is there 2 times"]),
    "too few fields": (append("labels.csv", b"lonely\n"), ["labels.csv:57", "1 field where the header has 2"]),
    "too many fields": (append("labels.csv", b"a,True,b\n"), ["labels.csv:57", "3 fields where the header has 2"]),
    "blank line": (append("labels.csv", b"\n"), ["refused: 1 thing", "labels.csv:57", "an empty line"]),
    "bad UTF-8 in the header": (replace("labels.csv", b"churn", b"ch\xfcrn"), ["labels.csv:1", "the header is not UTF-8"]),
    "NUL byte in the header": (replace("labels.csv", b"churn", b"ch\x00rn"), ["labels.csv:1", "has a NUL byte"]),
    "a quote within the header": (replace("labels.csv", b"churn_label", b'"churn"_label'), ["labels.csv:1", "the header is not CSV"]),
    "a quote without an end in the header": (replace("labels.csv", b"user_id", b'"user_id'), ["labels.csv:1", "is never closed"]),
    "unterminated quote": (replace("labels.csv", b"\n", b'\n"', 1), ["labels.csv"]),
    "doubled user_id": (double("labels.csv", str), ["refused: 1 thing", "labels.csv:57", "second row with this user_id, first on line 4"]),
    "doubled user_id after trimming": (double("users.csv", lambda user: f" {user}"), ["users.csv:57", "user_id_well_formed"]),
    "invisible characters around user_ids": (
        each(
            double("users.csv", lambda user: f"{user}\u00a0"), double("users.csv", lambda user: f"\u200b{user}"),
            double("users.csv", lambda user: f"\u3000{user}"), double("users.csv", lambda user: f"{user}\ufeff"),
            double("users.csv", lambda user: f"\u202e{user}"), double("users.csv", lambda user: f"{user}\x85"),
        ),
        ["refused: 6 things", "users.csv:57", "\\xa0", "has blanks or invisible characters around it", "(and 5 more like it)"],
    ),
    "unknown user_id": (put("support_agg_90d.csv", 5, "user_id", "stranger"), ["support_agg_90d.csv:5", "no such user_id in users.csv"]),
    "numbers of another base": (
        each(
            put("payments_agg_90d.csv", 5, "failed_payments_90d", "0x1F"), put("payments_agg_90d.csv", 9, "failed_payments_90d", "1_0"),
            put("usage_agg_30d.csv", 7, "watch_hours_30d", "0b11"), put("subscriptions.csv", 8, "months_active", " -0o7"),
        ),
        ["refused: 4 things", "payments_agg_90d.csv:5", '"0x1F"', "(and 1 more like it)", "usage_agg_30d.csv:7", "subscriptions.csv:8"],
    ),
    "outside the closed set": (
        put("subscriptions.csv", 5, "contract_type", "Lifelong"),
        [
            "1 thing is wrong in 1 file, nothing was changed", "subscriptions.csv:5", "contract_type", '"Lifelong"', "[audit_subscriptions_contract",
            "is not one of Month-to-month, One year, Two year. If the value is right, add it to audit_subscriptions_contract",
        ],
    ),
    "a long value": (put("subscriptions.csv", 5, "contract_type", '"' + "x" * 900_000 + '"'), ["subscriptions.csv:5", "is not one of Month-to-month"]),
    "row count collapses": (shrink, ["differs by 67 % from the month before"]),
    "row count explodes": (explode, ["% from the month before"]),
    "a folder": (as_folder, ["labels.csv  is a folder, not a file"]),
    "hostile header": (header("users.csv", lambda h: h.__setitem__(1, HOSTILE)), [HOSTILE, "unknown column"]),
    "end-of-data line": (append("labels.csv", b"\\.\nx,True\n"), ["labels.csv:57", "a line \\. may not be there"]),
    "quotes within a field": (
        replace("subscriptions.csv", b"One year", b'One "fair" year'),
        ["subscriptions.csv", "a quote within a field", "is not one of Month-to-month"],
    ),
    "steering the terminal": (header("users.csv", lambda h: h.__setitem__(1, "\x1b[2J")), ["\\x1b[2J"]),
    "broken gzip": (
        lambda f: ((f / "labels.csv").rename(f / "labels.csv.gz")),
        ["labels.csv.gz", "cannot be read"],
    ),
    "twice there": (lambda f: shutil.copy(f / "labels.csv", f / "labels.csv.gz"), ["is there more than once"]),
    "another header in each file": (
        each(
            replace("labels.csv", b"churn", b"ch\xfcrn"), replace("users.csv", b"gender", b"gen\x00der"),
            replace("subscriptions.csv", b"contract_type", b'"contract"_type'), replace("support_agg_90d.csv", b"user_id", b'"user_id'),
            header("usage_agg_30d.csv", lambda h: h.__setitem__(1, "\x1b[2J")),
            lambda f: (f / "payments_agg_90d.csv").write_bytes(b"user_id,failed_payments_90d\r\n"),
        ),
        [
            "labels.csv:1", "the header is not UTF-8", "users.csv:1", "has a NUL byte", "subscriptions.csv:1", "the header is not CSV",
            "support_agg_90d.csv:1", "is never closed", "\\x1b[2J", "payments_agg_90d.csv:1", "no rows",
        ],
    ),
    "several things in several files": (
        each(
            put("usage_agg_30d.csv", 5, "skips_7d", "many"), put("usage_agg_30d.csv", 9, "skips_7d", "-3"),
            put("labels.csv", 7, "churn_label", "perhaps"), lambda f: (f / "payments_agg_90d.csv").unlink(),
            put("subscriptions.csv", 8, "net_service", "Pigeon"), put("users.csv", 9, "signup_date", "tomorrow"),
        ),
        ["payments_agg_90d.csv", "users.csv:9", "usage_agg_30d.csv:5", "usage_agg_30d.csv:9", "labels.csv:7", "subscriptions.csv:8"],
    ),
}  # fmt: skip
ALONE = {
    "header only", "too many fields", "blank line", "bad UTF-8 in the header", "NUL byte in the header", "a quote within the header",
    "a quote without an end in the header", "unterminated quote", "end-of-data line", "steering the terminal",
}  # fmt: skip
"""Cases for `make test-long`: another case combines the headers, and tests/test_csv.py reads such rows."""
CASES = [pytest.param(*case, id=name, marks=[pytest.mark.long] if name in ALONE else []) for name, case in BAD.items()]


@pytest.mark.parametrize(("spoil", "said"), CASES)
def test_bad_input(january: Streamflow, months: Path, tmp_path: Path, spoil: Spoil, said: list[str]) -> None:
    spoil(copy_month(months, "001", tmp_path))
    result = refused(january, tmp_path)
    for text in said:
        assert text in result.err, result.err


def test_a_file_twice_in_an_archive(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """Whoever unpacks it gets the last one; which one was meant, nobody knows."""
    with ZipFile(tmp_path / "month_001.zip", "w") as archive:
        for path in sorted((months / "month_001").iterdir()):
            archive.write(path, path.name)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("labels.csv", (months / "month_001" / "labels.csv").read_text())
            archive.writestr("note.txt", "one")
            archive.writestr("note.txt", "two")
    result = refused(january, tmp_path)
    assert "labels.csv  is there more than once" in result.err
    assert "1 thing is wrong" in result.err
    (tmp_path / "month_001.zip").unlink()
    copy_month(months, "001", tmp_path)
    assert january.ok("ingest", "001", "--data-dir", tmp_path, "--json").json["state"] == "published"
    january.ok("verify")


def test_references_that_were_not_checked_are_said(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """Any of them may refer to the key that is wrong."""
    folder = copy_month(months, "001", tmp_path)
    set_value(folder / "users.csv", 4, "user_id", "\0")
    set_value(folder / "labels.csv", 9, "user_id", "nobody")
    result = refused(january, tmp_path)
    assert "references to its rows were not checked, as some keys in it are wrong" in result.err
    assert "nobody" not in result.err


def refused(january: Streamflow, data_dir: Path) -> Result:
    """Ingest a February that must be refused: nothing changes, and the rejects file has every problem."""
    before = january.state()
    result = january("ingest", "001", "--data-dir", data_dir)
    assert result.code == 1, result
    assert "Traceback" not in result.err
    assert january.state() == before
    assert january.rows("select state from ops.loads order by load_id") == [("published",), ("refused",)]
    assert_all_in_rejects(january, result)
    return result


def assert_all_in_rejects(streamflow: Streamflow, result: Result) -> None:
    """The rejects file has as many rows as the report counts."""
    assert str(Path(streamflow.environment["STREAMFLOW_HOME"]) / "rejects" / "month_001.csv") in result.err
    problems = rejects_of(streamflow, "001")
    [counted] = re.findall(r"([\d,]+) things? (?:is|are) wrong in", result.err)
    assert len(problems) == int(counted.replace(",", "")) > 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path)
    (folder / "labels.csv").chmod(0)
    result = streamflow("ingest", "000", "--data-dir", tmp_path)
    assert result.code == 1
    assert "cannot be read: Permission denied" in result.err


def test_a_month_is_refused_also_where_its_rejects_cannot_be_written(
    streamflow: Streamflow, months: Path, tmp_path: Path
) -> None:
    """The folder cannot be made, or the disk is full."""
    set_value(copy_month(months, "000", tmp_path) / "users.csv", 5, "user_gender", "unknown")
    rejects = Path(streamflow.environment["STREAMFLOW_HOME"]) / "rejects"
    rejects.parent.mkdir(exist_ok=True)
    rejects.write_text("no folder")
    refused_without_rejects(streamflow, tmp_path, "File exists")
    rejects.unlink()
    rejects.mkdir()
    (rejects / "month_000.csv").symlink_to("/dev/full")
    refused_without_rejects(streamflow, tmp_path, "No space left on device")


def test_no_value_is_in_a_log_of_the_driver(
    streamflow: Streamflow, months: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """COPY fails on a wrong value while the code that reads the bytes fails on a quote without an end."""
    path = copy_month(months, "000", tmp_path) / "users.csv"
    set_value(path, 3, "has_family", "perhaps")
    path.write_text(path.read_text() + '"never closed,2024-01-01\n')
    assert streamflow("check", "000", "--data-dir", tmp_path).code == 1
    assert [record for record in caplog.records if record.name.startswith("psycopg")] == []


def refused_without_rejects(streamflow: Streamflow, months: Path, reason: str) -> None:
    """The screen shows what is wrong, and why there is no rejects file."""
    result = streamflow("check", "000", "--data-dir", months)
    assert result.code == 1
    assert "users.csv:5 " in result.err
    assert f"month_000.csv cannot be written: {reason}" in result.err


def test_lines_are_those_of_an_editor(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path)
    path = folder / "users.csv"
    set_value(path, 3, "user_id", "two\nlines")
    set_value(path, 5, "user_gender", "unknown")
    others = [folder / f"{table}.csv" for table in TABLES if table != "users"]
    for other in others:
        edit(other, lambda rows: rows.__delitem__(2))
    result = streamflow("check", "000", "--data-dir", tmp_path)
    assert "users.csv:6 " in result.err

    set_value(path, 5, "signup_date", "x")
    result = streamflow("check", "000", "--data-dir", tmp_path)
    assert result.err.count("users.csv:6 ") == 2


def test_every_further_row_of_a_user_names_the_first(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    users = copy_month(months, "000", tmp_path) / "users.csv"
    for row, user in {3: "two\nlines", 5: "a", 9: "a", 11: "two\nlines", 12: "a"}.items():
        set_value(users, row, "user_id", user)

    streamflow("check", "000", "--data-dir", tmp_path)

    found = [row for row in rejects_of(streamflow, "000") if row["audit"] == "audit_users_user_id_unique"]
    assert [(row["line"], row["value"], row["reason"]) for row in found] == [
        ("10", "a", "second row with this user_id, first on line 6"),
        ("12", "two\nlines", "second row with this user_id, first on line 3"),
        ("14", "a", "third row with this user_id, first on line 6"),
    ]


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\u202e=1", " =1", "\uff1d1+1"]


def test_rejects_run_no_formula(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """Excel and others run a CSV cell that begins with one of these as a formula; a number may keep its sign."""
    folder = copy_month(months, "001", tmp_path)
    for line, formula in enumerate(FORMULAS, 2):
        set_value(folder / "subscriptions.csv", line, "contract_type", formula)
    set_value(folder / "usage_agg_30d.csv", 3, "watch_hours_30d", "-4.5")
    result = january("check", "001", "--data-dir", tmp_path)
    values = [row["value"] for row in rejects_of(january, "001")]
    assert len(values) == len(FORMULAS) + 1
    assert "-4.5" in values
    values.remove("-4.5")
    assert all(value.startswith(("'", "\\")) for value in values), values
    assert "\u202e" not in "".join(values) + result.err

    header("users.csv", lambda names: names.__setitem__(1, "=1+1"))(folder)
    january("check", "001", "--data-dir", tmp_path)
    assert "'=1+1" in [row["column"] for row in rejects_of(january, "001")]


def test_a_rejects_file_has_an_end(
    january: Streamflow, months: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejects, "IN_FILE", 30)
    folder = copy_month(months, "001", tmp_path)
    edit(folder / "labels.csv", lambda rows: [row.__setitem__(1, "x") for row in rows[1:41]])

    result = january("check", "001", "--data-dir", tmp_path)

    assert "refused: 40 things are wrong in 1 file" in result.err
    assert "(and 39 more like it)" in result.err
    assert "the first 30 of them: " in result.err
    *written, last = rejects_of(january, "001")
    assert len(written) == 30
    assert (last["file"], last["reason"]) == ("", "and 10 more, which are not written here")
    report = january("check", "001", "--data-dir", tmp_path, "--json").json["rejects"]
    assert (report["count"], report["written"]) == (40, 30)


def test_a_million_wrong_values_make_a_bounded_report(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path)
    users = [f"user-{number:06d}" for number in range(20_000)]
    (folder / "payments_agg_90d.csv").write_text("user_id,failed_payments_90d\n" + "".join(f"{u},x\n" for u in users))
    result = streamflow("check", "000", "--data-dir", tmp_path)
    assert result.code == 1
    assert len(result.err.splitlines()) < 40
    assert "(and 19,999 more like it)" in result.err


NUMBERS = [
    *(("subscriptions.csv", column) for column in ("months_active", "monthly_fee", "total_paid")),
    *(("usage_agg_30d.csv", column) for column in (
        "watch_hours_30d", "avg_session_mins_7d", "unique_devices_30d", "skips_7d", "rebuffer_events_7d",
    )),
    *(("support_agg_90d.csv", column) for column in ("support_tickets_90d", "ticket_avg_resolution_hrs_90d")),
    ("payments_agg_90d.csv", "failed_payments_90d"),
]  # fmt: skip
WORDS = [("users.csv", "user_gender"), ("subscriptions.csv", "contract_type"), ("labels.csv", "churn_label")]


def test_twenty_kinds_of_problems_are_on_the_screen_and_all_in_the_rejects(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    wrong = {(name, 5, column): "x" for name, column in NUMBERS + WORDS}
    wrong |= {(name, 9, column): "-1" for name, column in NUMBERS}
    each(*(put(*place, value) for place, value in wrong.items()))(copy_month(months, "001", tmp_path))
    result = refused(january, tmp_path)
    assert len(re.findall(r"^  \w+\.csv:\d", result.err, re.MULTILINE)) == 20
    assert f"  ... and {len(wrong) - 20} more\n" in result.err
    assert {(row["file"], int(row["line"]), row["column"]) for row in rejects_of(january, "001")} == set(wrong)


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
def test_rejects_run_no_formula_with_another_separator(tmp_path: Path, separator: str) -> None:
    """A spreadsheet set up for another list separator splits a value at it, quoted or not."""
    starts = ["", "a", "a;", "a|", "a\t", "a; ", 'a;"', "a\n", "a\n\n", "a;;", 'a";"']
    values = [f"{start}{sign}cmd|' /C calc'!A0" for start in starts for sign in "=+-@"]
    rejects.write_rejects(
        [Problem("users.csv", "wrong", value=value) for value in values], tmp_path / "month_000.csv", "000"
    )
    with (tmp_path / "month_000.csv").open(newline="", encoding="utf-8") as stream:
        cells = [cell.strip() for row in csv.reader(stream, delimiter=separator) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
