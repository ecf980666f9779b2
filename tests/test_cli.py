"""The contract of the command line: commands, exit codes, where results go."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loader.cli.main import app
from loader.project import CODE, VARIABLE, project
from tests.conftest import REPOSITORY, Streamflow

COMMANDS = [
    ("ingest",), ("land",), ("check",), ("status",), ("verify",), ("init",), ("dbt",), ("models",), ("setup",),
    ("forget",), ("migrate",), ("abandon",), ("history",), ("diff",), ("training-set",), ("freeze",), ("report",),
    ("doctor",), ("archive",), ("new",),
    ("db", "start"), ("db", "stop"), ("db", "status"), ("db", "uri"), ("db", "psql"),
]  # fmt: skip


def test_every_command_has_help(streamflow: Streamflow) -> None:
    for command in COMMANDS:
        if command == ("dbt",):  # its help is dbt's
            continue
        result = streamflow.ok(*command, "--help")
        assert result.out.strip(), command
        assert "<" not in result.out, f"{command}: what an option takes has a name; the types are Python's"
        assert result.err == "", command


def test_help_lists_every_command_in_groups(streamflow: Streamflow) -> None:
    listed = streamflow.ok("--help").out
    groups = re.findall(r"^╭─ (.+?) ─", listed, re.MULTILINE)
    assert groups == ["Options", "Load", "Look", "Take out", "Look after"]
    listed += streamflow.ok("db", "--help").out
    for command in COMMANDS:
        assert command[-1] in listed


def test_wrong_usage_is_2(streamflow: Streamflow) -> None:
    for command in ("ingest", "ingest abc", "ingest 000 --as-of yesterday", "ingest 000 --frobnicate", "nonsense"):
        result = streamflow(*command.split())
        assert (result.code, result.out) == (2, ""), command
        assert "Traceback" not in result.err, command


def test_without_a_month_it_says_which_there_are(streamflow: Streamflow, months: Path) -> None:
    for command in ("ingest", "land", "check"):
        result = streamflow(command, "--data-dir", months, "--json")
        assert result.code == result.json["exit_code"] == 2
        assert f"{months} has 000, 001, 002, 003, 004." in result.err
        assert "/nowhere has no month." in streamflow(command, "--data-dir", "/nowhere").err


def test_where_no_project_is_the_example_is_named(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("streamflow")), "db", "uri"]
    said = [
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stderr
        for folder in (tmp_path, REPOSITORY / "docs")
    ]
    assert [str(REPOSITORY) in text for text in said] == [True, False]


def test_help_needs_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when installed from a wheel, which has no example project to fall back on."""
    monkeypatch.setattr("loader.project.SHIPPED", CODE)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    project.cache_clear()
    try:
        assert CliRunner().invoke(app, ["ingest", "--help"]).exit_code == 0
    finally:
        project.cache_clear()


def would_do(*words: str) -> list[str]:
    """The commands that make would run if nothing is set up yet."""
    command = ["make", "--dry-run", "--no-print-directory", "--directory", str(REPOSITORY), "VENV=/nowhere", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_make_ingest_without_a_month_gives_none() -> None:
    assert would_do("ingest", "DATA_DIR=here")[-1].split()[-3:] == ["ingest", "--data-dir", '"here"']


def test_make_ingest_installs_the_runtime_and_make_test_what_tests_need() -> None:
    installed = {target: [line for line in would_do(target) if ".ci/install" in line] for target in ("ingest", "test")}
    assert [line.split()[-1] for line in installed["ingest"]] == ["."]
    assert [line.split()[-1] for line in installed["test"]] == [".", "'.[dev]'"]


def test_no_database_is_3(streamflow: Streamflow) -> None:
    streamflow.environment["POSTGRES_HOST"] = "/nowhere"
    result = streamflow("ingest", "000")
    assert result.code == 3
    assert "no connection to postgresql://" in result.err
    assert "POSTGRES_*" in result.err


def test_a_server_that_is_down_is_3(streamflow: Streamflow, tmp_path: Path) -> None:
    for name in ("POSTGRES_HOST", "POSTGRES_PORT"):
        streamflow.environment[name] = ""
    streamflow.environment["STREAMFLOW_HOME"] = str(tmp_path / "empty")
    result = streamflow("db", "status", "--json")
    assert (result.code, result.json["running"]) == (3, False)


def test_init_says_why_dbt_failed(january: Streamflow) -> None:
    january.connection.execute("alter table labels add column undeclared int")
    result = january("init")
    assert result.code == 3
    assert "has a column undeclared that is no longer declared" in result.err


def test_a_foreign_server_is_not_started_or_stopped(streamflow: Streamflow) -> None:
    for command in ("start", "stop"):
        result = streamflow("db", command)
        assert result.code == 2
        assert "not streamflow's" in result.err


def test_the_password_is_never_printed(streamflow: Streamflow) -> None:
    streamflow.environment["POSTGRES_PASSWORD"] = "hunter2"  # noqa: S105
    for arguments in (("db", "uri"), ("db", "status"), ("status",), ("ingest", "099"), ("ingest", "000", "--dry-run")):
        result = streamflow(*arguments)
        assert "hunter2" not in result.out + result.err
