"""A wrong command does not count as an attempt at a month; and the folder of a month may be named by a date."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import Streamflow
from tests.files import copy_month
from tests.test_accepted import to_zip


def test_what_is_refused_for_usage_is_no_attempt(january: Streamflow, months: Path, tmp_path: Path) -> None:
    attempts, shown = january.table("ops.loads"), january.ok("status").out
    (tmp_path / "month_001").mkdir()
    (tmp_path / "month_001" / "notes.txt").write_text("x")
    reason = ("--restate", "--reason", "x")
    for code, said, *words in (
        (4, "month 9999 is not there", "check", "9999"),
        (4, f"{tmp_path}/nowhere", "ingest", "001", "--data-dir", tmp_path / "nowhere"),
        (2, "users.csv is a file: name the folder", "check", "001", "--data-dir", months / "month_000" / "users.csv"),
        (4, f"{months}/month_000 has labels.csv", "ingest", "001", "--data-dir", months / "month_000"),
        (4, f"{tmp_path}/month_001 has notes.txt, and none of users.csv", "ingest", "001", "--data-dir", tmp_path),
        (2, "month 001 is not published: ingest it without", "ingest", "001", "--data-dir", months, *reason),
        (2, "is not a month", "check", "month-1"),
    ):
        result = january(*words)
        assert (result.code, said in result.err) == (code, True), result
    assert january.table("ops.loads") == attempts
    assert january.ok("status").out == shown


def test_a_month_s_folder_may_be_named_by_its_date(january: Streamflow, months: Path, tmp_path: Path) -> None:
    copy_month(months, "001", tmp_path).rename(tmp_path / "2024-02")
    copy_month(months, "002", tmp_path).rename(tmp_path / "2024-03")
    to_zip(tmp_path / "2024-03")
    for other in ("2023-12", "2024-13", "2024-2", "march", "month_0003"):
        (tmp_path / other).mkdir()
    listed = january("ingest", "--data-dir", tmp_path)
    assert (listed.code, f"{tmp_path} has 001, 002." in listed.err) == (2, True), listed.err
    missing = january("ingest", "003", "--data-dir", tmp_path)
    assert missing.code == 4
    said = f"{tmp_path}/month_003 is missing, and so is 2024-04; {tmp_path} has 2023-12, 2024-02, 2024-03.zip"
    assert said in missing.err
    january.ok("land", "001", "--data-dir", tmp_path)
    january.ok("land", "2024-03", "--data-dir", tmp_path)
    assert january.rows("select distinct as_of::text from ops.staged") == [("2024-03-31",)]

    shutil.copytree(tmp_path / "2024-02", tmp_path / "month_001")
    both = january("ingest", "001", "--data-dir", tmp_path)
    assert (both.code, "2024-02 is there too: take one of them away" in both.err) == (1, True), both.err
