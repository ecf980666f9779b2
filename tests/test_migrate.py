"""`migrate`: tables follow a declaration with wider types or other names; history stays proven, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from loader.contract.declared import Change, changes
from loader.contract.tables import load_contract
from loader.errors import WrongUsage
from loader.pipeline import ingest
from loader.upkeep import history, migrate
from tests.conftest import Streamflow
from tests.test_proof import do, unguarded
from tests.test_roles import Roles

Declare = Callable[..., None]


@pytest.fixture(name="declare")
def declaring(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declares columns anew, as table__column={...}, for commands of this process that do not start dbt."""

    def declared(**columns: dict[str, Any]) -> None:
        tables = []
        for table in load_contract():
            changed = [
                column.model_copy(update=columns.get(f"{table.name}__{column.name}", {})) for column in table.columns
            ]
            tables.append(table.model_copy(update={"columns": changed}))
        for module in (migrate, ingest):
            monkeypatch.setattr(module, "load_contract", lambda: tables)
            monkeypatch.setattr(module, "require_models", lambda _: None)

    return declared


WIDER = {
    "payments_agg_90d__failed_payments_90d": {"data_type": "numeric"},
    "usage_agg_30d__skips_7d": {"data_type": "bigint"},
    "usage_agg_30d__watch_hours_30d": {"data_type": "text"},
    "users__signup_date": {"data_type": "text"},
}


def as_text(tables: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[list[str]]]:
    """The values as PostgreSQL writes them."""
    plain = {"True": "true", "False": "false"}
    return {name: [[plain.get(str(v), str(v)) for v in row] for row in rows] for name, rows in tables.items()}


def test_history_follows_and_stays_proved(restated: tuple[Streamflow, Path], declare: Declare) -> None:
    """Types of all kinds and a name change in history, rows that a restatement kept, production and staging."""
    streamflow, manifest = restated
    state, kept = streamflow.state(), streamflow.table("restated.labels_2024_02_29")
    key = {} if streamflow.on_citus else {"labels__user_id": {"name": "customer", "aliases": ["user_id"]}}
    declare(**WIDER, **key, labels__churn_label={"name": "churned", "aliases": ["churn_label"]})
    planned = streamflow.ok("migrate", "--dry-run", "--json").json
    assert streamflow.state() == state
    done = streamflow.ok("migrate", "--json").json
    assert planned["changes"] == done["changes"]
    assert "payments_agg_90d.failed_payments_90d: integer to numeric" in done["changes"]
    assert planned["views"] == sorted([*done["views"], *done["left_to_dbt"]], key=planned["views"].index)

    assert [as_text(part) for part in streamflow.state()] == [as_text(part) for part in state]
    assert len(streamflow.table("restated.labels_2024_02_29")) == len(kept)
    for relation in ("public.labels", "public.labels_snapshots", "restated.labels_2024_02_29", "staging.labels"):
        query = (
            "select attname::text, atttypid::regtype::text from pg_attribute"
            " where attrelid = %s::regclass and attnum in (1, 2) order by attnum"
        )
        columns = [("customer" if key else "user_id", "text"), ("churned", "boolean")]
        assert streamflow.rows(query, relation) == columns
    verdicts = streamflow.ok("verify", "--manifest", manifest, "--json").json
    assert {verdict["finding"] for verdict in verdicts if verdict["as_of"] and verdict["table"] == "labels"} == {
        "as it was written, with columns that follow the declaration since",
        "kept as it was before it was restated, with columns that follow the declaration since",
    }
    assert manifest.read_text().splitlines()[-1] == done["manifest"]
    assert streamflow.ok("migrate", "--json").json["changes"] == []


def test_the_sums_of_before_and_after_are_in_the_ledger(january: Streamflow, declare: Declare) -> None:
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    before = january.value("select checksum from ops.history where table_name = 'payments_agg_90d'")
    january.ok("migrate")
    after = january.value("select checksum from ops.history where table_name = 'payments_agg_90d'")
    told = january.value("select tells from ops.chain where tells ->> 'event' = 'migrated'")
    [entry] = told["tables"]
    assert (entry["checksum_before"], entry["checksum"]) == (int(before), int(after))
    assert before != after
    assert "@" in told["by"]


def test_another_type_under_the_same_header(january: Streamflow, declare: Declare) -> None:
    """As docs/changes.md says: refused, renamed and migrated, then retired without the alias beside the new type."""
    declare(labels__churn_label={"data_type": "text"})
    assert "Declare it as boolean again" in january("migrate").err
    declare(labels__churn_label={"name": "churned", "aliases": ["churn_label"]})
    january.ok("migrate")
    [labels] = [table for table in load_contract() if table.name == "labels"]
    old, new = labels.column("churn_label"), labels.column("churn_label").model_copy(update={"data_type": "text"})
    columns = [labels.column("user_id"), old.model_copy(update={"name": "churned", "retired": True}), new]
    assert list(changes(january.connection, [labels.model_copy(update={"columns": columns})])) == []
    assert january.value("select count(churned) from labels_snapshots") == 60
    january.ok("verify")


def test_schemas_of_the_past_have_the_new_name(january: Streamflow, declare: Declare) -> None:
    january.ok("freeze", "000")
    declare(labels__churn_label={"name": "churned", "aliases": ["churn_label"]})
    january.ok("migrate")
    assert january.value("select count(churned) from as_of_2024_01_31.labels") == 60


def test_what_was_forged_is_not_entered_anew(january: Streamflow, declare: Declare) -> None:
    partition = "history.payments_agg_90d_2024_01_31"
    forged = f"update {partition} set failed_payments_90d = 9 where user_id = (select min(user_id) from {partition})"
    do(january, unguarded(partition, forged))
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    before = january.state()
    result = january("migrate")
    assert result.code == 3
    assert "payments_agg_90d of 2024-01-31: its rows or their checksum are not those of the ledger" in result.err
    assert january.state() == before


def test_what_is_no_widening_is_refused_before_a_row_is_written(
    january: Streamflow, months: Path, declare: Declare
) -> None:
    before, attempts = january.state(), january.value("select count(*) from ops.loads")
    for column, data_type in (("usage_agg_30d__watch_hours_30d", "int"), ("users__has_family", "int"),
                              ("users__signup_date", "boolean"), ("usage_agg_30d__skips_7d", "smallint"),
                              ("labels__churn_label", "text")):  # fmt: skip
        declare(**{column: {"data_type": data_type}})
        for command in (("check", "001"), ("land", "001"), ("ingest", "001"), ("migrate",)):
            result = january(*command, *(("--data-dir", str(months)) if len(command) > 1 else ()))
            assert result.code == 2, result
            assert f"{column.replace('__', '.')} is " in result.err
            assert "Declare it as " in result.err
    assert january.state() == before
    assert january.value("select count(*) from ops.loads") == attempts, "nor is it an attempt"


def test_the_key_of_forgotten_customers_does_not_become_text(january: Streamflow) -> None:
    """A number is written in several ways: as text, 7.0 would not be recognized as the customer 7."""
    as_text = [Change("labels", "user_id", "user_id", "numeric", "text")]
    if not january.on_citus:
        migrate._refuse(january.connection, load_contract(), as_text, [])
    january.connection.execute("insert into ops.forgotten values ('x', gen_random_uuid(), 1)")
    with pytest.raises(WrongUsage, match="they could come back"):
        migrate._refuse(january.connection, load_contract(), as_text, [])
    migrate._refuse(january.connection, load_contract(), [Change("labels", "skips", "skips", "int", "text")], [])
    if not january.on_citus:  # it spreads rows by this column, and so never changes its type or name
        migrate._refuse(
            january.connection, load_contract(), [Change("labels", "customer", "user_id", "text", "text")], []
        )
        wider = [Change("labels", "user_id", "user_id", "integer", "numeric")]
        migrate._refuse(january.connection, load_contract(), wider, [])


def test_a_dry_run_leaves_an_older_ledger_as_it_is(january: Streamflow) -> None:
    january.connection.execute("comment on table ops.loads is 'of an earlier version'")
    refused = january("migrate", "--dry-run")
    assert (refused.code, "`streamflow init` updates it" in refused.err) == (3, True)
    assert ("warning" in january.ok("doctor").out) and "schema ops is of another version" in january.ok("doctor").out
    january.ok("migrate")
    january.ok("migrate", "--dry-run")


VIEWS = """
    select
        c.oid::regclass::text, pg_get_viewdef(c.oid), relowner::regrole::text, relacl::text, reloptions,
        (select array_agg(attacl::text) from pg_attribute where attrelid = c.oid)
    from pg_class as c
    where
        relkind = 'v' and relnamespace::regnamespace::text in ('public', 'latest', 'as_of_2024_01_31')
    order by 1
"""


def test_dbts_views_come_back_as_they_were(january: Streamflow, declare: Declare, role_names: list[str]) -> None:
    """So do views on them and views of a frozen month: text, owner, and rights on the view and its columns."""
    january.ok("freeze", "000")
    owner, reader = (sql.Identifier(name) for name in role_names[:2])
    run = january.connection.execute
    run(
        sql.SQL("create role {0}; create role {1}; grant create, usage on schema public, latest to {0}").format(
            owner, reader
        )
    )
    run(sql.SQL("alter default privileges in schema latest grant select on tables to {}").format(reader))
    run(sql.SQL("grant select on training_set to {} with grant option").format(reader))
    for statement in (
        "grant select on {} to public",
        "revoke select on {} from public",
        "grant select (user_id) on {} to public",
    ):
        run(sql.SQL(statement).format(sql.Identifier("latest", "payments_agg_90d")))
    run(sql.SQL("grant select on payments_agg_90d_snapshots, published_months to {}").format(owner))
    run(sql.SQL("alter view latest.payments_agg_90d owner to {}").format(owner))
    run("alter view latest.payments_agg_90d set (security_barrier = true)")
    for name, what in (("older", "payments_agg_90d"), ("newer", "payments_agg_90d"), ("older", "newer")):
        names = sql.Identifier("latest", name), sql.Identifier("latest", what)
        run(sql.SQL("create or replace view {} as select failed_payments_90d from {}").format(*names))
    before, shown = january.rows(VIEWS), january.rows("select * from latest.payments_agg_90d order by 1")
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    done = january.ok("migrate", "--json").json
    assert {"latest.payments_agg_90d", "training_set"} <= set(done["views"])
    assert january.rows(VIEWS) == before
    assert january.rows("select * from latest.payments_agg_90d order by 1") == shown


def test_views_of_others_are_in_the_way(january: Streamflow, declare: Declare) -> None:
    """A view on a table, on a partition, or on a view of dbt is named, and nothing is changed."""
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    before = january.state()
    for relation in ("payments_agg_90d", "history.payments_agg_90d_2024_01_31", "latest.payments_agg_90d"):
        view = sql.SQL("create view mine as select failed_payments_90d from {}")
        january.connection.execute(view.format(sql.SQL(relation)))
        result = january("migrate")
        assert result.code == 3
        assert "mine" in result.err
        assert "Drop what is in the way, try again, then recreate it." in result.err
        assert january.state() == before
        january.connection.execute("drop view mine")
    january.ok("migrate")


def test_the_loader_can_and_rights_stay_as_they_were(
    january: Streamflow, declare: Declare, role_names: list[str]
) -> None:
    roles = Roles(january, role_names)
    roles.make()
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    before = [right for right in roles.rights() if "pg_toast" not in right[1]]
    roles.loader.ok("migrate")
    assert [right for right in roles.rights() if "pg_toast" not in right[1]] == before
    assert roles.reader.value("select count(*) > 0 from latest.payments_agg_90d")


def test_what_does_not_suit_the_new_type(january: Streamflow, declare: Declare) -> None:
    """A view of dbt that does not suit the type is left to dbt; what others made from a view is in the way."""
    declare(users__signup_date={"data_type": "text"}, subscriptions__monthly_fee={"data_type": "text"})
    january.connection.execute(
        "create function mine() returns bigint begin atomic select count(signup_date) from latest.users; end"
    )
    result = january("migrate")
    assert result.code == 3
    assert "function mine() depends on view latest.users" in result.err
    january.connection.execute("drop function mine()")
    done = january.ok("migrate", "--json").json
    assert done["left_to_dbt"] == ["churn_by_contract"]
    january.ok("verify")


def test_keys_are_put_back_or_in_the_way(january: Streamflow, declare: Declare) -> None:
    january.connection.execute("create table counts (number int primary key)")
    if january.on_citus:
        january.connection.execute("select create_reference_table('counts')")
    january.connection.execute(
        "insert into counts"
        " select distinct failed_payments_90d from payments_agg_90d where failed_payments_90d is not null"
    )
    january.connection.execute("""
        alter table payments_agg_90d
            add constraint known foreign key (failed_payments_90d) references counts on delete cascade;
    """)
    keys = (
        "select conname, pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid = 'payments_agg_90d'::regclass order by 1"
    )
    before = january.rows(keys)
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    result = january("migrate")
    assert result.code == 3
    assert 'foreign key constraint "known" cannot be implemented' in result.err
    declare(payments_agg_90d__failed_payments_90d={"data_type": "bigint"})
    january.ok("migrate")
    assert january.rows(keys) == before


def test_production_that_is_gone_is_no_table_to_change(january: Streamflow, declare: Declare) -> None:
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    january.connection.execute("drop table payments_agg_90d cascade")
    assert "manifest: 2 " in january.ok("migrate").out


def test_another_run_is_not_disturbed(january: Streamflow, declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    before = january.state()
    january.connection.execute("select pg_advisory_lock(24336, 1)")
    result = january("migrate")
    assert result.code == 3
    assert "another run is under way" in result.err
    january.connection.execute("select pg_advisory_unlock(24336, 1)")
    with january.connection.transaction():
        january.connection.execute("select 1 from payments_agg_90d")
        monkeypatch.setattr(history, "PATIENCE", "10ms")
        assert "a table is in use" in january("migrate").err
    january.connection.execute("alter table ops.chain add constraint never check (tells ->> 'event' <> 'migrated')")
    assert january("migrate").code == 3
    assert january.state() == before, "what fails at the last step has changed nothing"
    january.ok("verify")


@pytest.mark.long
def test_archived_months_are_restored_first(
    january: Streamflow, months: Path, declare: Declare, tmp_path: Path
) -> None:
    january.ok("ingest", "001", "--data-dir", months)
    january.ok("archive", "--before", "2024-02-29", "--to", tmp_path)
    declare(payments_agg_90d__failed_payments_90d={"data_type": "numeric"})
    result = january("migrate")
    assert result.code == 2
    assert "2024-01-31 are archived" in result.err
    january.ok("archive", "--restore")
    january.ok("migrate")
    january.ok("archive", "--before", "2024-02-29", "--to", tmp_path / "again")
    january.ok("archive", "--restore")
    january.ok("verify")
