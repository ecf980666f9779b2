"""Names that SQL reserves, or that PostgreSQL would truncate, work everywhere or are refused before anything lands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loader.contract.tables import load_contract
from loader.errors import WrongUsage
from tests.conftest import Streamflow, run_copy
from tests.test_contract import declare

KEY: dict[str, Any] = {"name": "select", "data_type": "text", "quote": True, "data_tests": ["not_null", "unique"]}
KINDS = {"table": "text", "end": "date", "limit": "numeric", "case": "boolean", "user": "int"}


def table_of(name: str) -> dict[str, Any]:
    """A table whose columns are named by words that SQL reserves."""
    columns = [{"name": column, "data_type": kind, "quote": True} for column, kind in KINDS.items()]
    accepted = {"accepted_values": {"arguments": {"values": ["x", "y"]}}}
    columns[0] |= {"data_tests": [accepted]}
    columns[-1] |= {"config": {"meta": {"label": True}}}
    meta = {"primary_key": "select", "references": {"table": "users", "columns": "select"}, "slowly_changing": True}
    config = {"fail_calc": "coalesce(max(null_percent), 0)"}
    percent = {"streamflow.null_percent": {"arguments": {"columns": ["end"]}, "config": config}}
    return {"name": name, "config": {"meta": meta}, "data_tests": [percent], "columns": [KEY, *columns]}


def deliver(folder: Path, months: Path, name: str, change: Callable[[str], str] = str) -> None:
    """Copy two months, each with a file of that table added."""
    for month in ("month_000", "month_001"):
        shutil.copytree(months / month, folder / month, dirs_exist_ok=True)
        users = [line.split(",")[0] for line in (folder / month / "users.csv").read_text().splitlines()[1:]]
        rows = [f"{user},x,2024-01-0{n % 9 + 1},{n}.50,true,{n}" for n, user in enumerate(users)]
        text = change("\n".join([",".join(["select", *KINDS]), *rows, ""]))
        (folder / month / f"{name}.csv").write_text(text)


LONG = "l" * 40


@pytest.mark.long
def test_reserved_and_long_names_work_everywhere(
    copy: Path, streamflow: Streamflow, months: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"

    def run(*words: str, code: int = 0) -> str:
        done = run_copy(copy, streamflow, *words)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def both(change: Callable[[str], str] = str) -> None:
        for name in ("order", LONG):
            deliver(data, months, name, change)

    for name in ("order", LONG):
        declare(copy, table_of(name))
    run("models", "--overwrite")
    both()
    for month in ("000", "001"):
        run("ingest", month, "--data-dir", str(data))
    for value in ("0.51", "0.52"):  # the second one replaces a partition that is itself a replacement
        both(lambda text, value=value: text.replace("0.50,", f"{value},"))  # type: ignore[misc]
        run("ingest", "001", "--data-dir", str(data), "--restate", "--reason", "again")
    run("verify")
    user = streamflow.value('select min("select") from "order"')
    for name in ("order", LONG):
        assert streamflow.value(f'select min("limit")::text from "{name}"') == "0.52"
        assert user in run("history", user, "--table", name)
        assert f"{name}: " in run("diff", "000", "001", "--table", name)
    run("report", "001")
    run("freeze", "2024-02-29")
    run("training-set", "--as-of", "2024-01-31", "--label-as-of", "2024-02-29", "--out", str(tmp_path / "t.csv"))
    state = streamflow.rows('select * from "order" order by 1')
    run("dbt", "build", "--full-refresh", "--quiet")
    assert streamflow.rows('select * from "order" order by 1') == state
    both(lambda text: text.replace(",x,", ",z,", 1) + text.splitlines()[3] + "\n")
    said = run("check", "001", "--as-of", "2024-03-31", "--data-dir", str(data), code=1)
    assert said.count("is not one of x, y") == said.count("second row") == 2


COLUMN = {"name": "select", "data_type": "text"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (table_of("l" * 41), "name String should match pattern"),
        ({**table_of("order"), "columns": [COLUMN]}, "select is a word that SQL reserves: add `quote: true`"),
        ({**table_of("order"), "columns": [KEY, {"name": "ctid", "data_type": "text"}]}, "ctid"),
        ({**table_of("order"), "columns": [KEY, {"name": "delivered", "data_type": "text"}]}, "delivered"),
        (table_of("users_snapshots"), "users_snapshots is the name of another model, or used in one"),
        (table_of("training_set"), "training_set is the name of another model, or used in one"),
        (table_of("published"), "published is the name of another model, or used in one"),
        (table_of("latest_users"), "latest_users is the name of another model, or used in one"),
        (table_of("label_dates"), "label_dates is the name of another model, or used in one"),
    ],
    ids=[
        "long",
        "reserved",
        "system column",
        "column of a view",
        "history",
        "written",
        "of streamflow",
        "view",
        "alias",
    ],
)
def test_names_that_cannot_work_are_refused(
    copy: Path, use_project: Callable[[Path], None], table: dict[str, Any], said: str
) -> None:
    declare(copy, table)
    use_project(copy)
    with pytest.raises(WrongUsage, match=said):
        load_contract()


def test_a_column_of_the_training_set_that_would_be_cut_is_refused(
    copy: Path, use_project: Callable[[Path], None]
) -> None:
    """If two tables share a column's name, the training set puts the table's name before it."""
    for name in ("a" * 20, "b" * 20):
        declare(copy, {**table_of(name), "columns": [KEY, {"name": "c" * 43, "data_type": "text"}]})
    use_project(copy)
    with pytest.raises(WrongUsage, match="is longer than 63"):
        load_contract()


@pytest.mark.parametrize("name", ['a"b', "a'b", "a\nb"], ids=repr)
def test_a_name_of_a_database_that_dbt_cannot_quote_is_refused(streamflow: Streamflow, name: str) -> None:
    streamflow.environment["POSTGRES_DB"] = name
    result = streamflow("ingest", "000")
    assert result.code == 2
    assert "POSTGRES_DB" in result.err


@pytest.mark.parametrize(
    "name", ["Ä%s\\{{ x }}", *(pytest.param(name, marks=pytest.mark.long) for name in ("a b", "a-b.c"))]
)
@pytest.mark.long
def test_unusual_names_of_databases_work(copy: Path, streamflow: Streamflow, months: Path, name: str) -> None:
    streamflow.connection.execute(f'drop database if exists "{name}"'.encode())
    streamflow.connection.execute(f'create database "{name}"'.encode())
    streamflow.environment["POSTGRES_DB"] = name
    try:
        for month in ("000", "001"):
            done = run_copy(copy, streamflow, "ingest", month, "--data-dir", str(months))
            assert done.returncode == 0, done.stderr
        for words in (("verify",), ("status",), ("doctor",), ("db", "uri")):
            streamflow.ok(*words)
    finally:
        streamflow.connection.execute(f'drop database "{name}" with (force)'.encode())
