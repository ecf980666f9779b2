"""Only plain files land, as they were looked at: files replaced meanwhile, links, pipes and the like."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loader.contract.tables import load_contract
from loader.database import Database
from loader.delivery import Delivery
from loader.landing import land
from tests.conftest import Streamflow, rejects_of
from tests.files import copy_month, edit
from tests.pauses import paused

Change = Callable[[Path], object]


def without_a_column(path: Path) -> None:
    """Replace the file by one that lacks a column and has the same size and time."""
    before = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    edit(other, lambda rows: [row.pop(-1) for row in rows])
    other.write_bytes(other.read_bytes().ljust(before.st_size, b"\n"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def with_other_values(path: Path) -> None:
    """Change bytes of the file in place, and keep its size and time."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"True", b"true"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def with_two_headers(path: Path) -> None:
    """Repeat the header."""
    text = path.read_bytes()
    path.write_bytes(text[: text.index(b"\n") + 1] + text)


def as_a_pipe(path: Path) -> None:
    """Replace the file by a pipe, whose reader waits for a writer."""
    path.unlink()
    os.mkfifo(path)


def as_a_link(path: Path) -> None:
    """Replace the file by a link to one with the same rows elsewhere."""
    path.rename(path.parent.parent / "elsewhere.csv")
    path.symlink_to("../elsewhere.csv")


MEANWHILE: dict[str, Change] = {
    "a column is gone": without_a_column,
    "other values": with_other_values,
    "emptied": lambda path: path.write_bytes(b""),
    "two headers": with_two_headers,
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"late,Male\n"),
    "deleted": lambda path: path.unlink(),
    "a pipe": as_a_pipe,
    "a link": as_a_link,
}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, id=name, marks=pytest.mark.long if name in {"emptied", "two headers", "grown"} else ())
        for name, change in MEANWHILE.items()
    ],
)
def test_a_file_that_is_replaced_after_it_was_looked_at(
    january: Streamflow, months: Path, tmp_path: Path, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_month(months, "001", tmp_path)
    before = january.state()

    def change_and_land(database: Database, delivery: Delivery, *arguments: Any) -> Any:
        change(folder / "users.csv")
        return land(database, delivery, *arguments)

    monkeypatch.setattr("loader.pipeline.run.land", change_and_land)
    result = january("ingest", "001", "--data-dir", tmp_path)
    assert result.code == 1, result
    assert "  users.csv" in result.err
    assert "Traceback" not in result.err
    assert january.state() == before
    assert january.value("select state from ops.loads order by load_id desc limit 1") == "refused"


def test_files_of_a_published_month_that_are_replaced_while_they_are_compared(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    folder = copy_month(months, "000", tmp_path)
    with paused(january, "ledger", "ingest", "000", "--data-dir", tmp_path) as run:
        (folder / "labels.csv").unlink()
    assert run.process.returncode == 1, run.said
    assert "labels.csv" in run.said[1]


def a_socket(path: Path) -> None:
    """Make a socket. This changes the current folder, as the path of a socket must be short."""
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)
        listener.bind(path.name)


NOT_PLAIN: dict[str, tuple[Change, str]] = {
    "users": (os.mkfifo, "is a pipe, not a file"),
    "subscriptions": (lambda path: path.mkdir(), "is a folder, not a file"),
    "usage_agg_30d": (a_socket, "is a device or a socket"),
    "payments_agg_90d": (lambda path: path.symlink_to("/dev/zero"), "is a link that leads out of the folder"),
    "support_agg_90d": (
        lambda path: path.symlink_to("/proc/self/environ"),
        "is a link that leads out of the folder",
    ),
    "labels": (lambda path: path.symlink_to("/etc/passwd"), "is a link that leads out of the folder"),
}
BROKEN: dict[str, tuple[Change, str]] = {
    "users": (lambda path: path.symlink_to("nothing"), "cannot be read: No such file"),
    "labels": (lambda path: path.symlink_to(path.name), "cannot be read: "),
}


@pytest.mark.parametrize("files", [NOT_PLAIN, BROKEN], ids=["not plain", "links to nothing and to itself"])
def test_only_plain_files_are_read(
    january: Streamflow,
    months: Path,
    tmp_path: Path,
    files: dict[str, tuple[Change, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # back to the current folder after the test: a_socket leaves it
    folder = copy_month(months, "001", tmp_path)
    for table, (make, _) in files.items():
        (folder / f"{table}.csv").unlink()
        make(folder / f"{table}.csv.gz")
    before = january.state()

    result = january("ingest", "001", "--data-dir", tmp_path)

    assert result.code == 1
    reasons = {row["file"]: row["reason"] for row in rejects_of(january, "001")}
    for table, (_, said) in files.items():
        assert reasons[f"{table}.csv.gz"].startswith(said)
        assert f"{table}.csv.gz " in result.err
    assert january.state() == before
    shown = result.err + str(reasons)
    assert "PATH=" not in shown
    assert "root:" not in shown


@pytest.mark.parametrize("allowed", ["/proc", "/"])
def test_the_environment_is_not_read_even_where_links_may_lead_there(
    january: Streamflow, months: Path, tmp_path: Path, allowed: str
) -> None:
    folder = copy_month(months, "001", tmp_path)
    (folder / "users.csv").unlink()
    (folder / "users.csv").symlink_to("/proc/self/environ")
    january.environment["STREAMFLOW_LINKS_TO"] = allowed
    result = january("check", "001", "--data-dir", tmp_path)
    assert (result.code, "users.csv:1  the file is empty" in result.err) == (1, True), result.err
    assert "=" not in str(rejects_of(january, "001"))


def test_links_within_the_folder_and_to_the_folder_of_the_setting(
    january: Streamflow, months: Path, tmp_path: Path
) -> None:
    """The month's own folder may be a link too: whoever names the folder of months is trusted with its entries."""
    pool = copy_month(months, "001", tmp_path / "pool")
    folder = copy_month(months, "001", tmp_path / "linked")
    (folder / "labels.csv").unlink()
    (folder / "labels.csv").symlink_to(pool / "labels.csv")
    (folder / "users.csv").rename(folder / "v2.csv")
    (folder / "users.csv").symlink_to("v2.csv")
    (tmp_path / "months").mkdir()
    (tmp_path / "months" / "month_001").symlink_to(folder)

    result = january("check", "001", "--data-dir", tmp_path / "months")
    assert result.code == 1
    assert "labels.csv  is a link that leads out of the folder" in result.err
    assert "STREAMFLOW_LINKS_TO" in result.err
    assert "users.csv  is" not in result.err

    january.environment["STREAMFLOW_LINKS_TO"] = str(tmp_path / "pool")
    january.ok("land", "001", "--data-dir", tmp_path / "months")
    assert january.value("select count(*) from staging.labels") > 0


def test_an_archive_is_a_plain_file_too(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "001", tmp_path / "packed")
    with zipfile.ZipFile(tmp_path / "elsewhere.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    data_dir = tmp_path / "months"
    data_dir.mkdir()
    (data_dir / "month_001.zip").symlink_to("../elsewhere.zip")
    result = january("check", "001", "--data-dir", data_dir)
    assert (result.code, "month_001.zip  is a link" in result.err) == (1, True), result.err
    (data_dir / "month_001.zip").unlink()
    os.mkfifo(data_dir / "month_001.zip")
    result = january("check", "001", "--data-dir", data_dir)
    assert (result.code, "month_001.zip  is a pipe" in result.err) == (1, True), result.err
    (data_dir / "month_001.zip").unlink()
    (tmp_path / "elsewhere.zip").rename(data_dir / "month_001.zip")
    january.ok("land", "001", "--data-dir", data_dir)


def test_an_archive_that_a_mac_made_has_no_more_files_than_the_folder(months: Path, tmp_path: Path) -> None:
    """The Finder adds a hidden file beside each file, which a pattern must not take for a part of the table."""
    tables = [table.model_copy(update={"files": f"*{table.name}.csv"}) for table in load_contract()]
    folder = copy_month(months, "001", tmp_path)
    with zipfile.ZipFile(tmp_path / "2024-02.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"x/{file.name}")
            archive.writestr(f"__MACOSX/x/._{file.name}", b"\x00\x05\x16\x07")
    shutil.rmtree(folder)
    found = Delivery(1, tmp_path, dt.date(2024, 2, 29), "2024-02").find(tables)
    assert (found.problems, len(found.files)) == ([], len(tables))


def test_a_damaged_archive_is_refused(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "001", tmp_path / "packed")
    path = tmp_path / "month_001.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
        place = archive.getinfo("labels.csv").header_offset + 100
    content = path.read_bytes()
    path.write_bytes(content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :])
    result = january("check", "001", "--data-dir", tmp_path)
    assert result.code == 1
    assert "labels.csv  cannot be read: " in result.err


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_would_fill_the_memory_is_refused(months: Path, tmp_path: Path, packing: int) -> None:
    """Python unpacks these with no limit: a megabyte of the archive may become gigabytes at once."""
    with zipfile.ZipFile(tmp_path / "month_001.zip", "w") as archive:
        for file in (months / "month_001").iterdir():
            archive.write(file, file.name, packing if file.name == "labels.csv" else zipfile.ZIP_DEFLATED)
    found = Delivery(1, tmp_path, dt.date(2024, 2, 29), "2024-02").find(load_contract())
    [problem] = found.problems
    assert problem.file == "month_001.zip/labels.csv"
    assert problem.reason.endswith("pack the archive with deflate, as `zip` does by default")
