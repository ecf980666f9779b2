"""The loader's role can do the whole job and no more, the reader's role can read and nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from tests.conftest import REPOSITORY, TABLES, Streamflow, run_copy
from tests.files import copy_month, set_value, value_at
from tests.test_contract import PLANS, declare

DENIED = "42501"
NOTHING_GRANTED = "01007"  # PostgreSQL only warns
HISTORY_STAYS = "55000"

NEITHER_MAY = [
    "create role another",
    "create database another",
    "create schema another",
    "create event trigger another on ddl_command_start execute function elsewhere.nothing()",
    "create publication another",
    "create function public.another() returns int language internal as 'int4_sum'",
    "alter system set work_mem = '1GB'",
    "alter database streamflow rename to another",
    "alter database streamflow set work_mem = '1GB'",
    "drop database january",
    "drop schema ops cascade",
    "drop schema public cascade",
    "set session_replication_role = 'replica'",
    "set log_statement = 'none'",
    "set role postgres",
    "set session authorization postgres",
    "select pg_read_file('postgresql.conf')",
    "copy users to '/tmp/users.csv'",
    "copy users to program 'true'",
    "select rolpassword from pg_authid",
    "select pg_reload_conf()",
    "select * from elsewhere.secret",
    "select * from public.others",
    "insert into public.others values (1)",
    "drop table public.others",
]
LOADER_MAY_NOT = {
    **dict.fromkeys(NEITHER_MAY, DENIED),
    "grant create on database streamflow to public": NOTHING_GRANTED,
    "alter role {loader} superuser": DENIED,
    "alter role {loader} createrole": DENIED,
    "alter role {loader} createdb": DENIED,
    "alter role {loader} bypassrls": DENIED,
    "alter role {loader} replication": DENIED,
    "alter role {reader} password 'mine'": DENIED,
    "alter role {reader} login": DENIED,
    "set role {reader}": DENIED,
    "grant {reader} to {loader}": DENIED,
    "alter database streamflow owner to {loader}": DENIED,
    "alter schema ops owner to {loader}": DENIED,
    "grant pg_read_all_data to {loader}": DENIED,
    "update users_snapshots set user_gender = null": HISTORY_STAYS,
    "delete from history.users_2024_01_31": HISTORY_STAYS,
    "truncate users_snapshots": HISTORY_STAYS,
}
READER_MAY_NOT = {
    **dict.fromkeys(NEITHER_MAY, DENIED),
    "grant create on database streamflow to public": NOTHING_GRANTED,
    "insert into users (user_id, observed_as_of) values ('x', '2024-01-31')": DENIED,
    "update users set user_gender = null": DENIED,
    "delete from users": DENIED,
    "truncate users cascade": DENIED,
    "drop table labels": DENIED,
    "alter table users add column extra int": DENIED,
    "alter table users_snapshots disable trigger all": DENIED,
    "create index on users (user_gender)": DENIED,
    "create trigger another before insert on users for each row execute function elsewhere.nothing()": DENIED,
    "comment on table users is 'mine'": DENIED,
    "do 'begin lock table users in row exclusive mode; end'": DENIED,
    "select * from users for update": DENIED,
    "insert into users_snapshots select * from users_snapshots": DENIED,
    "update users_snapshots set user_gender = null": DENIED,
    "delete from users_snapshots": DENIED,
    "truncate users_snapshots": DENIED,
    "select * from history.users_2024_01_31": DENIED,
    "select * from staging.users": DENIED,
    "select * from ops.loads": DENIED,
    "select * from ops.gate": DENIED,
    "insert into ops.audits select * from ops.audits": DENIED,
    "select ops.refuse_change()": DENIED,
    "select * from restated.users": DENIED,
    "create table public.another (n int)": DENIED,
    "create view public.another as select 1": DENIED,
    "create function public.another() returns int language sql as 'select 1'": DENIED,
    "create table staging.another (n int)": DENIED,
    "create table restated.another (n int)": DENIED,
    "set role {loader}": DENIED,
    "grant {loader} to {reader}": DENIED,
    "grant select on users to public": NOTHING_GRANTED,
    "alter role {loader} password 'mine'": DENIED,
    "alter role {reader} superuser": DENIED,
}
READER_MAY_ON_CITUS = {"select * from ops.loads", "select ops.refuse_change()"}


class Roles:
    """A database that `make` hands over with `init --roles`, and the command lines of admin, loader and reader."""

    def __init__(self, admin: Streamflow, names: list[str]) -> None:
        self.admin = admin
        self.loader_name, self.reader_name, self.owner_name = names
        self.arguments = ("init", "--roles", "--loader-role", names[0], "--reader-role", names[1])
        self.names = {"loader": sql.Identifier(names[0]), "reader": sql.Identifier(names[1])}

    def make(self, by: Streamflow | None = None) -> Any:
        """Run `init --roles`, and return what it says."""
        made = (by or self.admin).ok(*self.arguments, "--json").json
        self.loader, self.reader = self.admin.acting_as(self.loader_name), self.admin.acting_as(self.reader_name)
        return made

    def attempt(self, who: Streamflow, statement: str) -> str:
        """The SQLSTATE of a statement's error, or of its first warning; `done` if there is neither."""
        warnings: list[str] = []
        who.connection.add_notice_handler(lambda notice: warnings.append(notice.sqlstate or ""))
        try:
            who.connection.execute(sql.SQL(statement).format(**self.names))
        except psycopg.Error as error:
            return error.sqlstate or str(error)
        return warnings[0] if warnings else "done"

    def attempts(self, who: Streamflow, statements: Iterable[str]) -> dict[str, str]:
        """Statement -> SQLSTATE, for statements that must change no row and no right."""
        before = self.admin.state(), self.rights()
        states = {statement: self.attempt(who, statement) for statement in statements}
        assert (self.admin.state(), self.rights()) == before
        return states

    def owners(self) -> dict[str, set[str]]:
        """Schema -> the roles that own something in it."""
        return {
            schema: set(owners)
            for schema, owners in self.admin.rows(
                "select n.nspname, array_agg(pg_get_userbyid(owner)::text) from"
                " (select relnamespace, relowner, relname from pg_class union all"
                " select pronamespace, proowner, proname from pg_proc) as o (namespace, owner, name)"
                " inner join pg_namespace as n on n.oid = namespace"
                " where n.nspname in ('ops', 'staging', 'history', 'restated', 'latest', 'public')"
                " and name not like 'others%%' and name not like 'citus%%' group by 1"
            )
        }

    def rights(self) -> list[tuple[Any, ...]]:
        """Owners and access lists of everything, as text."""
        return self.admin.rows(
            "select 'schema', nspname::text, pg_get_userbyid(nspowner)::text, nspacl::text from pg_namespace"
            " union all select 'relation', oid::regclass::text, pg_get_userbyid(relowner), relacl::text from pg_class"
            " union all select 'routine', oid::regprocedure::text, pg_get_userbyid(proowner), proacl::text from pg_proc"
            " union all select 'database', datname, pg_get_userbyid(datdba), datacl::text from pg_database"
            " union all select 'default', defaclobjtype::text, pg_get_userbyid(defaclrole), defaclacl::text"
            " from pg_default_acl"
            " union all select 'role', rolname, rolcanlogin::text, rolinherit::text from pg_roles"
            " union all select 'member', roleid::regrole::text, member::regrole::text, inherit_option::text"
            " from pg_auth_members order by 1, 2, 3, 4"
        )


@pytest.fixture
def roles(january: Streamflow, role_names: list[str]) -> Roles:
    """Month 000, published by a superuser and not handed over yet; others have tables there too."""
    january.connection.execute(
        "create schema elsewhere; create table elsewhere.secret (n int); create table public.others (n int);"
        "create function elsewhere.nothing() returns trigger language plpgsql as 'begin return new; end'"
    )
    return Roles(january, role_names)


@pytest.fixture
def made(roles: Roles) -> Roles:
    """The database, handed over."""
    roles.make()
    return roles


def test_what_is_there_is_handed_over(roles: Roles) -> None:
    result = roles.make()
    assert result["handed_over"] > len(TABLES) * 4
    assert result["notes"] == []
    assert [(role["purpose"], role["created"], role["password"]) for role in result["roles"]] == [
        ("loader", True, "none"),
        ("reader", True, "none"),
    ]
    assert roles.owners() == {name: {roles.loader_name} for name in ("ops", "staging", "history", "latest", "public")}
    assert roles.admin.value("select pg_get_userbyid(relowner) from pg_class where relname = 'others'") == "postgres"
    assert (
        roles.admin.rows(
            "select rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls from pg_roles"
            " where rolname = any(%s)",
            [roles.loader_name, roles.reader_name],
        )
        == [(True, False, False, False, False, False)] * 2
    )


def test_an_administrator_may_have_any_name(roles: Roles) -> None:
    name = f"{roles.owner_name} of it@ll"
    roles.admin.connection.execute(sql.SQL("create role {} superuser login").format(sql.Identifier(name)))
    try:
        roles.make(roles.admin.acting_as(name))
        roles.admin.ok("doctor")
    finally:
        roles.admin.connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def test_a_second_time_changes_nothing(made: Roles) -> None:
    before = made.rights()
    result = made.make()
    assert result["handed_over"] == 0
    assert {role["created"] for role in result["roles"]} == {False}
    assert made.rights() == before


def test_no_function_of_the_loader_runs_with_the_rights_of_an_administrator(made: Roles) -> None:
    """Functions of the same name as PostgreSQL's, for arguments that fit better, would be called instead of them."""
    for name, result in (
        ("format(text, text, date)", "text"),
        ("pg_try_advisory_lock(smallint, smallint)", "boolean"),
        ("joined(bigint, text)", "text"),
    ):
        text = f"create function public.{name} returns {result} language plpgsql as $$"
        text += " begin alter role {loader} superuser; return null; end $$"
        assert made.attempt(made.loader, text) == "done"
    operator = "create operator public.|| (leftarg = bigint, rightarg = text, function = public.joined)"
    assert made.attempt(made.loader, operator) == "done"
    made.attempt(made.loader, "alter table ops.loads rename to loads_before")
    made.admin(*made.arguments)
    assert made.admin.rows("select rolname from pg_roles where rolsuper and rolname = %s", made.loader_name) == []


def test_schemas_of_past_dates_are_handed_over(roles: Roles) -> None:
    """Those that an administrator made, as before there was a loader; it may make others once that is granted."""
    roles.admin.ok("freeze", "000")
    roles.make()
    assert roles.attempt(roles.reader, "select * from as_of_2024_01_31.users") == "done"
    roles.admin.connection.execute(
        sql.SQL("drop schema as_of_2024_01_31 cascade; create schema as_of_2024_01_31").format(**roles.names)
    )
    refused = roles.loader("freeze", "000")
    assert (refused.code, "`streamflow init --roles`" in refused.err) == (3, True), refused
    roles.admin.connection.execute(sql.SQL("grant create on database streamflow to {loader}").format(**roles.names))
    roles.make()
    if roles.admin.on_citus:
        return  # each node of a cluster wants the grant for itself
    roles.loader.ok("freeze", "000")
    roles.admin.connection.execute("drop schema as_of_2024_01_31 cascade")
    roles.loader.ok("freeze", "000")
    assert roles.attempt(roles.reader, "select * from as_of_2024_01_31.users") == "done"


def test_it_mends_what_was_changed_since(made: Roles) -> None:
    before = made.rights()
    for statement in (
        "grant insert, delete on users to {reader}",
        "grant usage on schema staging to {reader}",
        "grant create on schema public to {reader}",
        "grant create on database streamflow to {reader}",
        "revoke all on labels from {reader}",
        "alter table ops.loads owner to postgres",
        "alter function ops.refuse_change() owner to postgres",
        "alter role {reader} nologin",
        "create function ops.another(text, int[]) returns int language sql as 'select 1'",
    ):
        made.admin.connection.execute(sql.SQL(statement).format(**made.names))
    assert made.make()["handed_over"] == 3
    made.admin.connection.execute("drop function ops.another")
    assert made.rights() == before


@pytest.mark.long
def test_the_loader_can_do_its_whole_job(
    new_database: Callable[[], Streamflow], role_names: list[str], months: Path, tmp_path: Path
) -> None:
    roles = Roles(new_database(), role_names)
    roles.make()
    roles.admin.connection.execute("revoke all on database streamflow from public")
    loader = roles.admin.acting_as(roles.loader_name)
    loader.ok("init")
    for month in ("000", "001"):
        assert loader.ok("ingest", month, "--data-dir", months, "--json").json["state"] == "published"
    loader.ok("check", "002", "--data-dir", months)
    folder = copy_month(months, "002", tmp_path)
    set_value(folder / "labels.csv", 3, "churn_label", "maybe")
    assert loader("ingest", "002", "--data-dir", tmp_path).code == 1
    loader.ok("ingest", "002", "--data-dir", months)
    set_value(folder / "labels.csv", 3, "churn_label", "")
    restated = loader.ok("ingest", "002", "--data-dir", tmp_path, "--restate", "--reason", "wrong", "--json").json
    assert restated["state"] == "published"
    assert len(loader.ok("status", "--json").json) == 3
    assert "are sound" in loader.ok("verify").out
    state = loader.state()
    roles.admin.connection.execute(
        sql.SQL("create schema dbt_test__audit authorization {loader}").format(**roles.names)  # it cannot make schemas
    )
    for arguments in (("build", "--store-failures"), ("build", "--full-refresh"), ("docs", "generate")):
        assert loader.dbt(*arguments).success, arguments
    assert loader.state() == state
    everywhere = {name: {roles.loader_name} for name in ("ops", "staging", "history", "restated", "latest", "public")}
    assert roles.owners() == everywhere


@pytest.mark.long
def test_the_loader_adds_tables_and_columns_and_the_reader_reads_them(
    made: Roles, copy: Path, months: Path, tmp_path: Path
) -> None:
    declare(copy, PLANS)
    path = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    document = yaml.safe_load(path.read_text())
    labels = next(table for table in document["sources"][0]["tables"] if table["name"] == "labels")
    labels["columns"].append({"name": "reason", "data_type": "text", "config": {"meta": {"optional": True}}})
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    folder = shutil.copytree(months / "month_001", tmp_path / "data" / "month_001")
    customers = [line.split(",")[0] for line in (folder / "users.csv").read_text().splitlines()[1:]]
    lines = ["offer,user_id,discount", *(f"gold,{customer},0.5" for customer in customers)]
    (folder / "plans.csv").write_text("\n".join(lines) + "\n")

    run_copy(copy, made.loader, "models")
    written = run_copy(copy, made.loader, "models", "labels_snapshots", "labels", "training_set", "--overwrite")
    assert written.returncode == 0, written.stderr
    result = run_copy(copy, made.loader, "ingest", "001", "--data-dir", str(folder.parent))

    assert result.returncode == 0, result.stderr
    assert made.reader.value("select count(*) from plans") == len(customers)
    assert made.reader.value("select count(*) from plans_snapshots") == len(customers)
    assert made.reader.value("select count(reason) from labels") == 0
    assert made.attempt(made.reader, "delete from plans") == DENIED


@pytest.mark.long
def test_marts_are_handed_over_and_read(roles: Roles, copy: Path) -> None:
    marts = copy / "dbt_project" / "models" / "marts"
    marts.mkdir(exist_ok=True)
    (marts / "churn.sql").write_text("select churn_label from {{ ref('labels') }}")
    assert run_copy(copy, roles.admin, "dbt", "run", "--select", "churn").returncode == 0
    made = run_copy(copy, roles.admin, *roles.arguments)
    assert made.returncode == 0, made.stderr
    loader, reader = roles.admin.acting_as(roles.loader_name), roles.admin.acting_as(roles.reader_name)
    assert reader.value("select count(*) from churn") == 60
    (marts / "later.sql").write_text("{{ config(materialized='table') }} select churn_label from {{ ref('labels') }}")
    built = run_copy(copy, loader, "dbt", "run", "--select", "churn", "later")
    assert built.returncode == 0, built.stdout
    assert reader.value("select count(*) from churn") == reader.value("select count(*) from later") == 60


def test_what_the_loader_may_not_do(made: Roles) -> None:
    assert made.attempts(made.loader, LOADER_MAY_NOT) == LOADER_MAY_NOT


def test_the_loader_does_not_become_what_it_can_reach(made: Roles) -> None:
    """The loader writes the ledger: a table that it names there must not be handed over to it."""
    made.loader.connection.execute("update ops.history set table_name = 'others' where table_name = 'labels'")
    made.make()
    assert made.attempt(made.loader, "select * from others") == DENIED


def test_what_the_reader_may_not_do(made: Roles, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path)
    set_value(folder / "users.csv", 3, "user_gender", "")
    made.loader.ok("ingest", "000", "--data-dir", tmp_path, "--restate", "--reason", "wrong")
    kept_in = made.admin.value("select kept_in from ops.restatements where table_name = 'users'")
    statements = {
        statement.replace("restated.users", kept_in).replace("history.users_2024_01_31", partition): state
        for partition in [made.admin.value("select 'history.' || partition_name from ops.history limit 1")]
        for statement, state in READER_MAY_NOT.items()
        # a cluster has no `for update`; there, the reader needs rights on what its views read
        if not (made.admin.on_citus and (statement.endswith("for update") or statement in READER_MAY_ON_CITUS))
    }
    assert made.attempts(made.reader, statements) == statements
    for arguments in (("ingest", "001", "--data-dir", months), ("status",), ("verify",), ("report", "000")):
        result = made.reader(*arguments)
        assert (result.code, result.out) == (3, "")
        assert "permission denied for" in result.err
        assert "set POSTGRES_USER to the role that ingests" in result.err
        assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "command", ["ingest", *(pytest.param(command, marks=pytest.mark.long) for command in ("dbt", "init"))]
)
def test_the_role_that_loads_takes_a_new_version_into_use(made: Roles, months: Path, command: str) -> None:
    """Also if the version before has stamped the schema ops, which this role does not own."""
    made.admin.connection.execute("comment on table ops.loads is null; comment on schema ops is 'of another version'")
    if command == "dbt":
        assert made.loader.dbt("build").success
    elif command == "init":
        made.loader.ok("init")
    if command != "ingest":
        made.loader.ok("verify")
    made.loader.ok("ingest", "001", "--data-dir", months)
    made.loader.ok("verify")


def test_the_reader_reads_production_history_and_views(made: Roles, months: Path) -> None:
    made.loader.ok("ingest", "001", "--data-dir", months)
    assert made.reader.state() == made.admin.state()
    assert made.reader.latest() == made.admin.latest()
    for view in ("published_months", "training_set", "users_scd2"):
        query = f"select * from {view} order by 1, 2, 3"
        assert made.reader.rows(query) == made.admin.rows(query) != []


def test_temporary_tables_are_as_public_has_them(made: Roles) -> None:
    assert made.attempt(made.reader, "create temporary table mine (n int)") == "done"
    made.admin.connection.execute("revoke temporary on database streamflow from public")
    assert made.attempt(made.reader, "create temporary table another (n int)") == DENIED
    assert made.attempt(made.loader, "create temporary table another (n int)") == "done"


def test_both_get_in_where_public_does_not(made: Roles) -> None:
    made.admin.connection.execute("revoke all on database streamflow from public")
    for name in (made.loader_name, made.reader_name):
        assert made.admin.acting_as(name).value("select count(*) from users") == 60


@pytest.mark.long
def test_the_roles_can_be_taken_away_as_the_documents_say(made: Roles, months: Path) -> None:
    text = (REPOSITORY / "docs" / "security.md").read_text()
    found = re.search(r"To take the roles away.*?```sql\n(.*?)```", text, re.DOTALL)
    assert found
    statements = found.group(1).replace("streamflow_loader", "{loader}").replace("streamflow_reader", "{reader}")
    before = made.admin.state()
    made.admin.connection.execute(sql.SQL(statements).format(**made.names))
    assert made.admin.state() == before
    assert made.admin.rows("select 1 from pg_roles where rolname = any(%s)", [made.loader_name, made.reader_name]) == []
    made.admin.ok("ingest", "001", "--data-dir", months)


@pytest.fixture
def owner(roles: Roles) -> Streamflow:
    """The command line of a role that owns the database and everything of streamflow in it, and is no superuser."""
    name = sql.Identifier(roles.owner_name)
    connection = roles.admin.connection
    connection.execute(sql.SQL("create role {} login").format(name))
    takes_over = sql.SQL("alter database streamflow owner to {}").format(name)
    connection.execute(takes_over)
    if roles.admin.on_citus:
        roles.admin.rows("select run_command_on_workers(%s)", takes_over.as_string(connection))
    for (schema,) in roles.admin.rows(
        "select nspname from pg_namespace where nspname in ('ops', 'staging', 'history', 'restated', 'latest')"
    ):
        connection.execute(sql.SQL("alter schema {} owner to {}").format(sql.Identifier(schema), name))
    for schema, table in roles.admin.rows(
        "select schemaname, tablename from pg_tables where schemaname in ('ops', 'staging', 'history', 'public')"
        " union all select schemaname, viewname from pg_views where schemaname in ('ops', 'latest', 'public')"
        " and viewname not like 'citus%%'"
        " union all select schemaname, sequencename from pg_sequences where schemaname = 'staging'"
    ):
        connection.execute(sql.SQL("alter table {} owner to {}").format(sql.Identifier(schema, table), name))
    for (routine,) in roles.admin.rows(
        "select oid::regprocedure::text from pg_proc where pronamespace = 'ops'::regnamespace"
    ):
        connection.execute(sql.SQL("alter routine {} owner to {}").format(sql.SQL(routine), name))
    return roles.admin.acting_as(roles.owner_name)


def test_an_owner_with_createrole_will_do(roles: Roles, owner: Streamflow, months: Path) -> None:
    roles.admin.connection.execute(sql.SQL("alter role {} createrole").format(sql.Identifier(roles.owner_name)))
    owner.environment["STREAMFLOW_LOADER_PASSWORD"] = "first"  # noqa: S105
    assert roles.make(owner)["handed_over"] > len(TABLES) * 4
    assert roles.make(owner)["handed_over"] == 0
    assert roles.owners() == {name: {roles.loader_name} for name in ("ops", "staging", "history", "latest", "public")}
    roles.loader.ok("ingest", "001", "--data-dir", months)
    assert roles.reader.state() == owner.state()
    owner.ok("verify")
    loader_may_not = {**LOADER_MAY_NOT, "set role {owner}": DENIED}
    roles.names["owner"] = sql.Identifier(roles.owner_name)
    assert roles.attempts(roles.loader, loader_may_not) == loader_may_not


def test_an_owner_without_createrole_is_told_who_may(roles: Roles, owner: Streamflow) -> None:
    before = roles.rights()
    result = owner(*roles.arguments)
    assert result.code == 3
    assert "permission denied to create role. Have a superuser run this" in result.err
    assert roles.rights() == before
    roles.make()
    assert roles.owners() == {name: {roles.loader_name} for name in ("ops", "staging", "history", "latest", "public")}


def test_an_owner_may_not_take_over_roles_that_are_there(roles: Roles, owner: Streamflow) -> None:
    roles.admin.connection.execute(sql.SQL("create role {loader} login; create role {reader}").format(**roles.names))
    roles.admin.connection.execute(sql.SQL("alter role {} createrole").format(sql.Identifier(roles.owner_name)))
    before = roles.rights()
    owner.environment["STREAMFLOW_LOADER_PASSWORD"] = "first"  # noqa: S105
    result = owner(*roles.arguments)
    assert result.code == 3
    assert "permission denied to alter role" in result.err
    assert roles.rights() == before


def test_what_belongs_to_others_is_named(roles: Roles, owner: Streamflow) -> None:
    roles.admin.connection.execute("alter table labels_snapshots owner to postgres")
    roles.admin.connection.execute(sql.SQL("alter role {} createrole").format(sql.Identifier(roles.owner_name)))
    before = roles.rights()
    result = owner(*roles.arguments)
    assert result.code == 3
    assert "must be owner of table labels_snapshots" in result.err
    assert roles.rights() == before


def test_rights_that_cannot_be_granted_are_an_error(roles: Roles, owner: Streamflow) -> None:
    """PostgreSQL only warns if a role has a right on a schema, but not the right to grant it."""
    roles.admin.connection.execute(sql.SQL("alter role {} createrole").format(sql.Identifier(roles.owner_name)))
    roles.admin.connection.execute("alter schema ops owner to postgres; grant usage, create on schema ops to public")
    before = roles.rights()
    result = owner(*roles.arguments)
    assert result.code == 3
    assert 'no privileges were granted for "ops"' in result.err or "must be owner of schema ops" in result.err
    assert roles.rights() == before


def test_neither_role_makes_roles(made: Roles) -> None:
    before = made.rights()
    others = ("init", "--roles", "--loader-role", "another_loader", "--reader-role", "another_reader")
    for who, said in ((made.loader, "permission denied to create role"), (made.reader, "permission denied")):
        assert who(*made.arguments).code in {2, 3}
        result = who(*others)
        assert result.code == 3
        assert said in result.err
    assert made.rights() == before


def test_a_table_in_use_is_not_waited_for(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loader.upkeep.history.PATIENCE", "1ms")
    roles.admin.connection.execute("alter database streamflow set statement_timeout = '30s'")  # streamflow overrides it
    before = roles.rights()
    with roles.admin.connection.transaction():
        roles.admin.connection.execute("select from labels")
        result = roles.admin(*roles.arguments)
    assert result.code == 3
    assert "a table is in use" in result.err
    assert roles.rights() == before


@pytest.mark.parametrize("purpose", ["loader", "reader"])
def test_a_role_with_more_rights_is_not_taken(streamflow: Streamflow, role_names: list[str], purpose: str) -> None:
    roles = Roles(streamflow, role_names)
    streamflow.connection.execute(sql.SQL(f"create role {{{purpose}}}").format(**roles.names))
    for attribute in ("superuser", "createdb", "createrole", "replication", "bypassrls"):
        alter = f"alter role {{{purpose}}} "
        streamflow.connection.execute(sql.SQL(alter + attribute).format(**roles.names))
        result = streamflow(*roles.arguments)
        assert result.code == 2, attribute
        assert f"more rights than a {purpose} should ({attribute})" in result.err
        streamflow.connection.execute(sql.SQL(f"{alter} no{attribute}").format(**roles.names))
    assert streamflow.value("select to_regnamespace('ops') is null"), "nothing was made"


def test_the_owner_of_the_database_is_no_loader(roles: Roles, owner: Streamflow) -> None:
    result = roles.admin("init", "--roles", "--loader-role", roles.owner_name, "--reader-role", roles.reader_name)
    assert result.code == 2
    assert "has more rights than a loader should (rights of the database's owner)" in result.err


WRONG_USAGE = {
    ("--loader-role", "someone"): "give --roles too",
    ("--reader-role", "someone"): "give --roles too",
    ("--roles", "--loader-role", "streamflow_reader"): "must be two roles",
    ("--roles", "--loader-role", ""): "cannot name a role",
    ("--roles", "--reader-role", " padded"): "cannot name a role",
    ("--roles", "--reader-role", "r" * 64): "cannot name a role",
    ("--roles", "--reader-role", "pg_reader"): "cannot name a role",
    ("--roles", "--reader-role", "public"): "cannot name a role",
    ("--roles", "--reader-role", "order"): "cannot name a role",
    ("--roles", "--loader-role", "l\"oader'; drop table users; -- {x} %s"): "cannot name a role",
    ("--roles", "--loader-role", "postgres"): "it runs this command",
}


def test_wrong_usage_is_told_before_anything_is_made(streamflow: Streamflow) -> None:
    for arguments, said in WRONG_USAGE.items():
        result = streamflow("init", *arguments)
        assert result.code == 2, arguments
        assert said in result.err, arguments
        assert streamflow.value("select to_regnamespace('ops') is null"), arguments


def test_rights_from_elsewhere_are_told(roles: Roles) -> None:
    roles.admin.connection.execute(
        sql.SQL(
            "create role {reader}; grant pg_read_all_stats to {reader}; grant create on schema public to public;"
            "grant create on database streamflow to public"
        ).format(**roles.names)
    )
    notes = roles.make()["notes"]
    assert [note.replace(roles.loader_name, "loader").replace(roles.reader_name, "reader") for note in notes] == [
        "loader may create schemas in this database, which was granted to it, to PUBLIC or to a role it is in",
        "reader is a member of pg_read_all_stats and has its rights too",
        "reader may create schemas in this database, which was granted to it, to PUBLIC or to a role it is in",
        "every role may create functions in public, which could run with the rights of this one; as its owner or a"
        " superuser: revoke create on schema public from public",
    ]


def test_what_a_person_sees(roles: Roles) -> None:
    roles.admin.environment["STREAMFLOW_READER_PASSWORD"] = "first"  # noqa: S105
    out = roles.admin.ok(*roles.arguments).out
    name = roles.loader_name
    assert f"loader {name}: created, without a password; to set one, in psql: \\password {name}" in out
    assert f"reader {roles.reader_name}: created, with the password of STREAMFLOW_READER_PASSWORD" in out
    del roles.admin.environment["STREAMFLOW_READER_PASSWORD"]
    again = roles.admin.ok(*roles.arguments).out
    assert f"loader {roles.loader_name}: up to date, its password is as it was" in again
    assert f"reader {roles.reader_name}: up to date, its password is as it was" in again


def test_only_the_owner_forgets(roles: Roles, months: Path) -> None:
    user = value_at(months / "month_000" / "users.csv", 3, "user_id")
    roles.make()
    refused = roles.reader("forget", user, "--reason", "they asked")
    assert refused.code == 3
    assert refused.err.count("\n") <= 2
    assert roles.loader.value("select count(*) from users where user_id = %s", user) == 1
    roles.loader.ok("forget", user, "--reason", "they asked")
    assert roles.loader.value("select count(*) from users where user_id = %s", user) == 0
