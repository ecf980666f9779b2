"""The doctor: what it finds, that it changes nothing, and that it never shows a password."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from loader.contract.model_check import ModelFault
from loader.readers import doctor
from tests.conftest import Streamflow
from tests.test_terminal import begun_and_not_published


def found(result: Any, check: str) -> list[tuple[str, str]]:
    """The level and the text of each finding of a check."""
    return [(f["level"], f"{f['message']}: {f['remedy']}") for f in result.json["findings"] if f["check"] == check]


def test_a_sound_installation_has_no_problem(january: Streamflow) -> None:
    before = january.state()
    result = january.ok("doctor", "--json")
    assert result.json["problems"] == 0
    for check in ("settings", "dbt packages", "models", "disk", "database", "rights", "locks", "months"):
        assert found(result, check), check
    assert found(result, "months") == [("ok", "1 published, none left unfinished: ")]
    assert january.state() == before


def test_models_that_lack_something_come_with_both_commands(
    january: Streamflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = ModelFault(Path("labels.yml"), "column x is declared but missing", "labels")
    monkeypatch.setattr(doctor, "model_faults", lambda _: [lacks])
    [(level, text)] = found(january.ok("doctor", "--json"), "models")
    assert level == "warning"
    assert text.endswith("`streamflow models labels --overwrite`")


def test_an_empty_database_stays_empty(streamflow: Streamflow) -> None:
    assert "no problem found" in streamflow.ok("doctor").out
    assert streamflow.value("select to_regclass('ops.loads') is null")


def test_the_embedded_server_is_not_started(streamflow: Streamflow, tmp_path: Path) -> None:
    streamflow.environment |= {"POSTGRES_HOST": "", "STREAMFLOW_HOME": str(tmp_path / "new")}
    result = streamflow.ok("doctor", "--json")
    assert "stopped" in found(result, "database")[0][1]
    assert not (tmp_path / "new").exists()


def test_no_database_is_3_and_shows_no_password(streamflow: Streamflow) -> None:
    streamflow.environment |= {"POSTGRES_HOST": "/nowhere", "POSTGRES_PASSWORD": "hunter2"}
    result = streamflow("doctor", "--json")
    assert result.code == 3
    assert found(result, "database")[0][0] == "problem"
    assert "hunter2" not in result.out + result.err


def test_misspelt_and_unusable_variables_are_named(streamflow: Streamflow) -> None:
    streamflow.environment |= {"STREAMFLOW_HOM": "x", "POSTGRES_PORT": "many"}
    result = streamflow("doctor", "--json")
    assert result.code == 3
    assert any("did you mean STREAMFLOW_HOME?" in text for _, text in found(result, "variables"))
    assert any("POSTGRES_PORT" in text for level, text in found(result, "settings") if level == "problem")


def test_a_role_without_rights_is_a_problem(january: Streamflow, role_names: list[str]) -> None:
    january.connection.execute(sql.SQL("create role {} login").format(sql.Identifier(role_names[0])))
    result = january.acting_as(role_names[0])("doctor", "--json")
    assert result.code == 3
    rights = found(result, "rights")
    assert any("may not create tables" in text for _, text in rights)
    assert any("does not own" in text for _, text in rights)


def test_a_role_that_may_create_functions_is_a_warning(january: Streamflow, role_names: list[str]) -> None:
    """Its functions could have names that statements of the loader's sessions call."""
    analyst = sql.Identifier(role_names[0])
    january.connection.execute(sql.SQL("create role {}").format(analyst))
    january.connection.execute(sql.SQL("grant create on schema ops, public to {}").format(analyst))
    [(level, text)] = found(january.ok("doctor", "--json"), "safety")
    assert (level, text.endswith(f"revoke create on schema ops, public from {role_names[0]}")) == ("warning", True)
    january.connection.execute(sql.SQL("revoke create on schema ops, public from {}").format(analyst))


def test_row_level_security_is_a_problem(january: Streamflow, role_names: list[str]) -> None:
    """No policy applies to a superuser, so the loader's role looks."""
    january.ok("init", "--roles", "--loader-role", role_names[0], "--reader-role", role_names[1])
    january.connection.execute("alter table users enable row level security, force row level security")
    loader = january.acting_as(role_names[0])
    [(level, text)] = found(loader("doctor", "--json"), "rights")
    assert (level, "alter table users no force row level security" in text) == ("problem", True)


def test_a_month_left_unfinished_is_a_warning(january: Streamflow) -> None:
    january.connection.execute("insert into ops.loads (command, month, as_of, started_by, data_dir, versions)"
                               " values ('ingest', '001', '2024-02-29', 'me', '/', '{}')")  # fmt: skip
    [(level, text)] = found(january.ok("doctor", "--json"), "months")
    assert level == "warning"
    assert text.endswith("streamflow ingest 001 --data-dir /")


def test_a_month_begun_and_not_published_is_a_warning(january: Streamflow) -> None:
    begun_and_not_published(january, "landed")
    [(level, text)] = found(january.ok("doctor", "--json"), "months")
    assert (level, text.split(": ")[0]) == (
        "warning", "not finished",
    )  # fmt: skip


def test_what_failed_after_publishing_is_a_warning(january: Streamflow, months: Path) -> None:
    january.connection.execute("update ops.loads set failed_nodes = array['mine']")
    assert found(january.ok("doctor", "--json"), "months") == [
        ("warning", f"failed: mine, after 000 was published: streamflow ingest 000 --data-dir {months}")
    ]


def test_psycopg_errors_have_no_traceback(january: Streamflow) -> None:
    january.connection.execute("drop table ops.audits cascade")
    result = january("doctor")
    assert result.code == 3
    assert "Traceback" not in result.out + result.err


def test_a_table_that_is_gone_is_a_problem(january: Streamflow) -> None:
    january.connection.execute("drop table labels cascade")
    result = january("doctor")
    assert result.code == 3
    assert "the ledger knows tables that are gone: public.labels" in " ".join(result.out.split())


def test_what_is_missing_is_made_by_the_command_that_is_named(january: Streamflow, months: Path) -> None:
    january.connection.execute("drop table ops.audits")
    for command in (["status"], ["ingest", "001", "--data-dir", months]):
        failed = january(*command)
        assert failed.code == 3
        assert 'relation "ops.audits" does not exist' in failed.err
        assert "`streamflow init` makes missing tables" in failed.err
    january.ok("init")
    january.ok("ingest", "001", "--data-dir", months)
    assert "published" in january.ok("status").out


def test_what_endangers_the_database_is_a_warning(january: Streamflow) -> None:
    """A system update may change how text is sorted; a database from before PostgreSQL 15 lets all roles create."""
    assert [level for level, _ in found(january.ok("doctor", "--json"), "safety")] == ["ok"]
    change = "update pg_database set datcollversion = {} where datname = 'streamflow'"
    before = january.value("select datcollversion from pg_database where datname = 'streamflow'")
    january.connection.execute("grant create on schema public to public")
    january.connection.execute(sql.SQL(change).format("1.0 of another system"))
    try:
        (collation, reindex), (public, revoke) = found(january.ok("doctor", "--json"), "safety")
    finally:
        january.connection.execute(sql.SQL(change).format(before))
        january.connection.execute("revoke create on schema public from public")
    assert (collation, public) == ("warning", "warning")
    assert reindex.endswith("reindex database streamflow; alter database streamflow refresh collation version")
    assert revoke.endswith("revoke create on schema public from public")
    assert [level for level, _ in found(january.ok("doctor", "--json"), "safety")] == ["ok"]
