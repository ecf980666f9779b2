"""The contract of the command line: commands, exit codes, where results go."""

from __future__ import annotations

import os
import re
import shlex
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
    assert groups == ["Options", "Load", "Inspect", "Export", "Maintain"]
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


FROM_AN_OUTER_MAKE = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "ARGS", "MONTH", "DATA_DIR", "AS_OF"}
"""Variables that `make test ARGS=...` sets for what it runs."""


def would_do(*words: str) -> list[str]:
    """The commands that make would run if nothing is set up yet."""
    command = ["make", "--dry-run", "--no-print-directory", "--directory", str(REPOSITORY), "VENV=/nowhere", *words]
    environment = {name: value for name, value in os.environ.items() if name not in FROM_AN_OUTER_MAKE}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["DATA_DIR=here"], ["--data-dir", "here"]),
        (["MONTH=001", "DATA_DIR=a b", "AS_OF=2024-02-29"], ["001", "--data-dir", "a b", "--as-of", "2024-02-29"]),
        (["MONTH=001", "ARGS=--force --json"], ["001", "--force", "--json"]),
    ],
    ids=" ".join,
)
def test_make_ingest_passes_on_what_is_said(words: list[str], arguments: list[str]) -> None:
    assert shlex.split(would_do("ingest", *words)[-1]) == ["/nowhere/bin/streamflow", "ingest", *arguments]


def test_make_docs_generates_and_then_serves_or_copies_them() -> None:
    assert [line.split()[1:] for line in would_do("docs", "PORT=9")[-3:]] == [
        ["init"], ["dbt", "docs", "generate", "--quiet"],
        ["dbt", "docs", "serve", "--host", "127.0.0.1", "--port", "9"],
    ]  # fmt: skip
    *_, initialized, generated, copied, told = would_do("docs-static")
    assert initialized.endswith(" init")
    assert generated.endswith(" dbt docs generate --static --quiet")
    assert copied.endswith("cat dbt_project/target/static_index.html > docs/static/index.html")
    assert told == "echo docs/static/index.html"


@pytest.mark.parametrize("ending", [0, 1, 5])
def test_make_test_ends_as_pytest_does_and_leaves_no_files(tmp_path: Path, ending: int) -> None:
    """The tests have a folder of their own; a folder that ARGS names comes later and wins."""
    fake, noted = tmp_path / "bin" / "pytest", tmp_path / "noted"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nfor word; do case $word in --basetemp=*) mkdir -p "${{word#*=}}";; esac; done\n'
                    f'echo "$@" > {noted}\nexit {ending}\n')  # fmt: skip
    fake.chmod(0o755)
    recipe = [line for line in would_do("test", f"VENV={tmp_path}", "ARGS=--basetemp=/later") if "basetemp" in line]
    assert subprocess.run(["sh", "-c", *recipe], check=False).returncode == ending
    own, later = [word for word in noted.read_text().split() if word.startswith("--basetemp=")]
    assert later == "--basetemp=/later"
    assert not Path(own.removeprefix("--basetemp=")).parent.exists()


def test_make_ingest_installs_the_runtime_and_make_test_what_tests_need() -> None:
    installed = {target: [line for line in would_do(target) if ".ci/install" in line] for target in ("ingest", "test")}
    assert [line.split()[-1] for line in installed["ingest"]] == ["."]
    assert [line.split()[-1] for line in installed["test"]] == ["'.[dev]'"]


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
    assert "has a column undeclared that is not declared, and no month has brought it" in result.err


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
