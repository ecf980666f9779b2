"""Somebody else's objects in the schema staging: nothing of theirs is dropped, and they are told what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Streamflow

THEIRS = {
    "a table": "create table staging.users (user_id text, note text)",
    "a table with the same columns": "create table staging.users as select * from public.users_snapshots",
    "an unlogged table": "create unlogged table staging.users (user_id text, as_of date not null)",
    "a view": "create view staging.users as select 'a'::text as user_id",
    "a materialized view": "create materialized view staging.users as select 'a'::text as user_id",
    "a sequence": "create sequence staging.users",
}


@pytest.mark.parametrize("create", THEIRS.values(), ids=THEIRS)
def test_what_somebody_else_has_made_is_not_dropped(january: Streamflow, months: Path, create: str) -> None:
    january.connection.execute("drop table staging.users")
    january.connection.execute(create.encode())
    kind = "select relkind, oid from pg_class where oid = 'staging.users'::regclass"
    before, state = january.rows(kind), january.state()

    result = january("ingest", "001", "--data-dir", months)

    assert result.code == 3
    assert "staging.users was not made by streamflow" in result.err
    assert "set schema" in result.err
    assert (january.rows(kind), january.state()) == (before, state)


@pytest.mark.parametrize(
    "create",
    [
        "create table users (user_id int, email text)",
        "create table labels (user_id text primary key, churn_label boolean)",
        "create table labels (user_id text primary key, extra boolean)",
        "create table labels_snapshots (user_id text, as_of date)",
        "create view users as select 'a'::text as user_id",
    ],
)
def test_a_table_of_somebody_else_is_not_taken_for_ones_own(streamflow: Streamflow, months: Path, create: str) -> None:
    """Not by any way that makes or changes tables, or hands them over."""
    streamflow.connection.execute(create.encode())
    theirs = "select relname, relowner, relkind, relnatts from pg_class where relnamespace = 'public'::regnamespace"
    before = streamflow.rows(theirs)
    for arguments in (("ingest", "000", "--data-dir", months), ("migrate",), ("init",), ("init", "--roles")):
        refused = streamflow(*arguments)
        assert refused.code == 2, refused
        assert "was not made by streamflow: name another database in POSTGRES_DB" in refused.err
    built = streamflow.dbt("build")
    assert "was not made by streamflow" in str(built.exception)
    assert streamflow.rows(theirs) == before


def test_what_hangs_on_staging_is_named(january: Streamflow, months: Path) -> None:
    january.connection.execute("create view public.who as select user_id from staging.users")
    state = january.state()
    result = january("ingest", "001", "--data-dir", months)
    assert result.code == 3
    assert "view who depends on table staging.users" in result.err
    assert "have it read latest.users" in result.err
    assert january.state() == state
    january.connection.execute("drop view public.who")
    january.ok("ingest", "001", "--data-dir", months)
