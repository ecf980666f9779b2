"""The command of STREAMFLOW_NOTIFY gets the outcome of each month, and cannot change it."""

from __future__ import annotations

import json
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import SecretStr

from loader import api
from loader.database import run_lock
from loader.pipeline import notify
from loader.settings import Settings, load_settings
from tests.conftest import Streamflow
from tests.files import copy_month, set_value, value_at

SECRET = "https://hooks.example/T0KEN"  # noqa: S105 (made up)


@pytest.fixture
def heard(january: Streamflow, tmp_path: Path) -> Path:
    """The file to which the command appends each message as a line; one of its arguments is a secret."""
    program = tmp_path / "hear.py"
    program.write_text("import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n'); print('heard')")
    command = [sys.executable, str(program), str(tmp_path / "heard"), SECRET]
    january.environment["STREAMFLOW_NOTIFY"] = shlex.join(command)
    return tmp_path / "heard"


def words(heard: Path) -> list[dict[str, Any]]:
    """The messages that the command got."""
    return [json.loads(line) for line in heard.read_text().splitlines()]


def test_each_outcome_is_told_without_a_customer_s_values(
    january: Streamflow, months: Path, heard: Path, tmp_path: Path
) -> None:
    usage = copy_month(months, "001", tmp_path / "bad") / "usage_agg_30d.csv"
    set_value(usage, 3, "watch_hours_30d", "-41.5")
    customer = value_at(usage, 3, "user_id")
    bad = january("ingest", "001", "--data-dir", tmp_path / "bad")
    set_value(usage.with_name("users.csv"), 3, "signup_date", "soon")
    assert january("ingest", "001", "--data-dir", tmp_path / "bad").code == 1
    late = january("ingest", "009", "--data-dir", months, "--json")
    assert (bad.code, late.code, late.json["exit_code"]) == (1, 4, 4)
    january.ok("check", "001", "--data-dir", months)
    done = january.ok("ingest", "001", "--data-dir", months, "--json")
    january.ok("ingest", "001", "--data-dir", months)
    assert january("ingest", "000", "--restate", "--waive", "no_such_audit", "--reason", "x").code == 2

    audited, unread, not_there, published = words(heard)
    for rejects, refused in enumerate((audited, unread), 1):
        assert (refused["event"], refused["exit_code"], refused["rejects"]) == ("refused", 1, rejects)
        assert refused["audits_failed"] == ["audit_usage_watch_hours_0_to_744"]
    assert (not_there["event"], not_there["exit_code"], not_there["month"]) == ("late", 4, "009")
    assert (published["event"], published["state"], published["exit_code"]) == ("published", "published", 0)
    assert (published["month"], published["as_of"]) == ("001", "2024-02-29")
    assert published["counts"] == done.json["counts"]
    assert customer not in heard.read_text()
    assert "-41.5" not in heard.read_text()
    assert january.value("select count(*) from ops.loads as l where l::text like %s", f"%{SECRET}%") == 0


def test_a_month_that_is_published_and_then_refused_is_not_told_as_unchanged(
    january: Streamflow, months: Path, heard: Path, tmp_path: Path
) -> None:
    """Its history was complete, so the ingest of other files first publishes it, and then refuses them."""
    set_value(copy_month(months, "001", tmp_path) / "labels.csv", 3, "churn_label", "")
    january.ok("land", "001", "--data-dir", tmp_path)
    january.dbt("build", "--exclude", "path:models/production+")
    begun, finished = (january(command, "001", "--data-dir", months) for command in ("check", "ingest"))
    for result in (begun, finished):
        assert result.code == 1
        assert "labels.csv  rows that differ from history: 1" in result.err
    assert "month 001 was begun for 2024-02-29, with other rows, and is published now" in finished.err
    [told] = words(heard)
    assert told["message"] == "month 001 was refused: 1 problem"


def test_what_fails_is_told_by_the_functions_too(
    january: Streamflow, months: Path, heard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in january.environment.items():
        monkeypatch.setenv(name, value)
    load_settings.cache_clear()
    january.connection.execute("select pg_advisory_lock(%s, %s)", run_lock())
    with pytest.raises(api.SurroundingsFailed):
        api.ingest_month("001", months)
    load_settings.cache_clear()
    [failed] = words(heard)
    assert (failed["event"], failed["exit_code"], failed["command"]) == ("failed", 3, "ingest")


def test_what_fails_after_the_publish_is_in_the_message(january: Streamflow, months: Path, heard: Path) -> None:
    january.environment["STREAMFLOW_REPORT"] = "true"
    home = Path(january.environment["STREAMFLOW_HOME"])
    home.mkdir(parents=True)
    reports = home / "reports"
    reports.write_text("a file where the folder should be")
    assert january("ingest", "001", "--data-dir", months).code == 5
    assert january("ingest", "001", "--data-dir", months).code == 5
    reports.unlink()
    january.ok("ingest", "001", "--data-dir", months)
    published, again = words(heard)
    assert [(one["event"], one["state"], one["exit_code"], one["models_failed"]) for one in (published, again)] == [
        ("published", "published", 5, ["report of month 001"]), ("published", "unchanged", 5, ["report of month 001"])
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (f"/no/such/program {SECRET}", "cannot be started: No such file or directory"),
        (f"{sys.executable} -c 'import sys; sys.exit(sys.argv[1] and 7)' {SECRET}", "ended with exit code 7"),
        (f"{sys.executable} -c 'import time; time.sleep(600)' {SECRET}", "took more than 1 s"),
        (f"{SECRET} 'left open", "is not a command"),
        ("'' ", "cannot be started"),
    ],
    ids=["missing", "failing", "hanging", "no words", "blank"],
)
def test_a_command_that_fails_fails_nothing(
    january: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, complaint: str
) -> None:
    monkeypatch.setattr(notify, "PATIENCE", 1)
    january.environment["STREAMFLOW_NOTIFY"] = command
    result = january("ingest", "009", "--data-dir", tmp_path)
    assert result.code == 4
    assert complaint in result.err
    assert "T0KEN" not in result.err + result.out


def test_what_a_command_has_started_is_ended_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PATIENCE", 1)
    command = f"sh -c 'sleep 60 & echo $! > {shlex.quote(str(tmp_path / 'started'))}; wait'"
    assert notify._send(SecretStr(command), {}) == "took more than 1 s and was ended"
    deadline = time.monotonic() + 10
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(int((tmp_path / "started").read_text()))
        while started.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_command_is_not_shown() -> None:
    assert "T0KEN" not in repr(Settings(STREAMFLOW_NOTIFY=f"curl {SECRET}"))  # type: ignore[call-arg]


def test_the_command_gets_no_password(january: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may belong to another service, and needs none of the database."""
    for name in ("POSTGRES_PASSWORD", "PGPASSWORD", "STREAMFLOW_LOADER_PASSWORD", "PGPASSFILE"):
        monkeypatch.setenv(name, "of the database")
    january.environment["STREAMFLOW_NOTIFY"] = f"sh -c 'env > {shlex.quote(str(tmp_path / 'seen'))}'"
    assert january("ingest", "009", "--data-dir", tmp_path).code == 4
    seen = (tmp_path / "seen").read_text()
    assert "PASSWORD" not in seen
    assert "PGPASSFILE" in seen
