"""Settings from the environment, and the dates that follow from them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from loader.api import last_month
from loader.database import Database
from loader.delivery import parse_month
from loader.errors import WrongUsage
from loader.project import VARIABLE, project
from loader.settings import Settings, load_settings
from tests.conftest import Streamflow


def test_as_of_is_the_last_day_of_the_month() -> None:
    assert [str(Settings().as_of(month)) for month in (0, 1, 11, 12, 13)] == [
        "2024-01-31", "2024-02-29", "2024-12-31", "2025-01-31", "2025-02-28",
    ]  # fmt: skip


def test_the_last_month_of_a_day_is_the_newest_that_was_over_before_its_own_began() -> None:
    days = ["2024-02-01", "2024-02-29", "2024-03-31", "2025-01-01"]
    assert [last_month(dt.date.fromisoformat(day)) for day in days] == ["000", "000", "001", "011"]
    assert last_month(dt.date(2024, 2, 1), Settings(STREAMFLOW_FIRST_MONTH="2023-11")) == "002"  # type: ignore[call-arg]
    for number in range(30):
        assert last_month(Settings().as_of(number) + dt.timedelta(days=1)) == f"{number:03d}"


def test_before_the_first_month_is_over_there_is_no_last_one() -> None:
    with pytest.raises(WrongUsage, match="no month had ended by 2024-01-31"):
        last_month(dt.date(2024, 1, 31))


@pytest.mark.parametrize("text", ["1", "01", "001", "month_001", " 001 "])
def test_a_month_may_be_written_in_several_ways(text: str) -> None:
    assert parse_month(text) == 1


@pytest.mark.parametrize("text", ["", "abc", "-1", "1.5", "month_"])
def test_what_is_not_a_month_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="is not a month"):
        parse_month(text)


@pytest.mark.parametrize(("name", "value"), [
    ("POSTGRES_PORT", "many"), ("STREAMFLOW_FIRST_MONTH", "2024-13"), ("POSTGRES_HOST", "postgresql://me:s3cret@db/x"),
    ("POSTGRES_DB", "postgresql://me:s3cret@db/x"),
])  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    load_settings.cache_clear()
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongUsage, match=name) as raised:
        load_settings()
    assert "s3cret" not in str(raised.value)
    load_settings.cache_clear()


@pytest.mark.parametrize("host", ["/run/a b", "::1", "db"])
def test_the_uri_leads_to_what_was_set(host: str) -> None:
    """After a slash in the user's name, libpq would take the rest for the host."""
    database = Database(host, 5433, "ann/@x:y?", "a/b c?d", None, embedded=False)
    parts = {"host": host, "port": "5433", "user": "ann/@x:y?", "dbname": "a/b c?d"}
    assert conninfo_to_dict(database.uri) == parts


def test_what_is_archived_by_setting_is_not_frozen_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ingest would refuse to archive what it had frozen."""
    load_settings.cache_clear()
    monkeypatch.setenv("STREAMFLOW_FREEZE", "true")
    monkeypatch.setenv("STREAMFLOW_KEEP_MONTHS", "12")
    with pytest.raises(WrongUsage, match=r"STREAMFLOW_FREEZE keeps .* set one of them"):
        load_settings()
    load_settings.cache_clear()


def test_other_variables_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USER", "HOST", "PORT", "PASSWORD", "DATABASE"):
        monkeypatch.setenv(name, "7")
    assert Settings().embedded
    assert Settings().user == "streamflow"
    assert Settings().home.name == ".streamflow"


def test_a_month_by_its_date(monkeypatch: pytest.MonkeyPatch) -> None:
    load_settings.cache_clear()
    assert [parse_month(text) for text in ("2024-01", "2024-02", "2025-01", "001", "month_001")] == [0, 1, 12, 1, 1]
    for wrong in ("2023-12", "2024-13", "2024-2"):
        with pytest.raises(WrongUsage):
            parse_month(wrong)
    assert parse_month("2024-02", Settings(STREAMFLOW_FIRST_MONTH="2023-02")) == 12  # type: ignore[call-arg]


def test_a_month_keeps_the_date_that_it_was_published_for(january: Streamflow, months: Path) -> None:
    """With another first month, a month would be published for another date, which nothing can undo."""
    before = january.state()
    january.environment["STREAMFLOW_FIRST_MONTH"] = "2025-01"
    for command in (("ingest", "000"), ("ingest", "000", "--dry-run"), ("land", "000")):
        refused = january(*command, "--data-dir", months)
        assert refused.code == 2
        assert "month 000 is published as of 2024-01-31, but its date would now be 2025-01-31" in " ".join(
            refused.err.split()
        )
    refused = january("ingest", "001", "--data-dir", months)
    assert refused.code == 2
    assert "the date of month 001 would be 2025-02-28, but month 000 is published as of 2024-01-31" in refused.err
    assert january.state() == before
    assert "as_of_2024_01_31" in january.ok("freeze", "2024-01").out
    january.ok("ingest", "000", "--as-of", "2024-01-31", "--data-dir", months)


def test_an_env_file_that_cannot_be_read_is_named(use_project: Callable[[Path], None], copy: Path) -> None:
    """Like another user's file; but root could read that, and not this one."""
    (copy / ".env").symlink_to("/proc/self/mem")
    use_project(copy)
    load_settings.cache_clear()
    with pytest.raises(WrongUsage, match=r"\.env cannot be read: Input/output error"):
        load_settings()
    load_settings.cache_clear()


def test_a_project_of_another_user_is_used_only_by_name(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example in its place would publish made-up customers."""
    monkeypatch.chdir(copy)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("loader.project._is_trusted", lambda _: False)
    project.cache_clear()
    with pytest.raises(WrongUsage, match=f"{copy} belongs to another user.*name it with --project-dir"):
        project()
    monkeypatch.setenv(VARIABLE, str(copy))
    assert project().root == copy
    project.cache_clear()


def test_what_libpq_would_not_read_in_an_env_file_is_refused(
    use_project: Callable[[Path], None], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes PGSSLMODE there would believe that the server is verified."""
    monkeypatch.delenv("PGSSLMODE", raising=False)
    (copy / ".env").write_text("PGADMIN_DEFAULT_EMAIL=a@example.com\nexport PGSSLMODE=verify-full\n")
    use_project(copy)
    load_settings.cache_clear()
    with pytest.raises(WrongUsage, match=r"PGSSLMODE in \.env has no effect: export it in the environment"):
        load_settings()
    monkeypatch.setenv("PGSSLMODE", "verify-full")  # as after `set -a; . .env`
    load_settings()
    load_settings.cache_clear()
