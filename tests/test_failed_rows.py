"""Exactly the guilty rows of a failed audit are listed, whichever dbt test the audit is."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader import ledger
from loader.contract.packages import STAND_IN
from loader.delivery import Problem, SourceFile, TableFiles
from loader.refusals import failed_audits
from loader.refusals.audits import Audit, audit_of
from loader.refusals.failed_audits import failed_rows
from tests.audit_cases import CASES, COLUMNS, GUILTY, HEADER, OWN, ROWS, SINGULAR, TABLE, Row
from tests.conftest import REPOSITORY
from tests.fuzzing import fuzz
from tests.servers import Server, connect
from tests.test_stand_in import REAL, is_real, write_dbt_project


@dataclass(frozen=True)
class Audited:
    """The failed audits of a database by name, each with the number of failures that dbt counted."""

    connection: psycopg.Connection[Any]
    audits: dict[str, tuple[Audit, int]]
    file: SourceFile

    def problems(self, name: str, **changes: Any) -> list[Problem]:
        """The problems that are listed for an audit, with `changes` made to it."""
        audit, failures = self.audits[name]
        return list(
            failed_rows(
                self.connection, dataclasses.replace(audit, **changes), failures, TABLE, TableFiles((self.file,))
            )
        )

    def deliver(self, rows: str) -> None:
        """Replace the rows in staging and in the file."""
        self.file.path.write_text(f"{HEADER}\n{rows}")
        self.connection.execute("truncate staging.customers")
        copy = f"copy staging.customers ({HEADER}) from stdin (format csv)"
        with self.connection.cursor().copy(copy.encode()) as stream:
            stream.write(rows)


@pytest.fixture(scope="module", params=["stand-in", "real"])
def audited(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """All cases, tested by dbt in a project of their own, with the stand-in or the real package."""
    if request.param == "real" and not is_real(REAL):
        pytest.skip("the real dbt_expectations is not at hand")
    folder = tmp_path_factory.mktemp("failed_rows")
    write_project(folder, real=request.param == "real")
    server.make("failed_rows")
    with contextlib.closing(connect(server, "failed_rows")) as connection:
        ledger.prepare(connection)
        connection.execute(f"create table staging.customers ({COLUMNS}, as_of date default '2024-01-31')".encode())
        connection.execute("create table staging.users as select unnest(array['u1', 'u2']) as user_id")
        audited = Audited(connection, {}, SourceFile(folder / "customers.csv"))
        audited.deliver(ROWS)
        audited.audits.update(run_dbt(folder, server))
        yield audited


def write_project(folder: Path, *, real: bool) -> None:
    """Write a dbt project that declares the cases and little else."""
    packages = folder / "dbt_packages"
    if real:
        shutil.copytree(REAL, packages, ignore=shutil.ignore_patterns("streamflow"))
    else:
        shutil.copytree(STAND_IN, packages / "dbt_expectations")
    cases = {name: case for name, case in CASES.items() if real or not case.real}
    by_column: dict[str | None, list[Any]] = {}
    for name, case in cases.items():
        by_column.setdefault(case.column, []).append(case.declared(name))
    tests = by_column.pop(None)
    columns = [{"name": name, "data_tests": declared} for name, declared in by_column.items()]
    config = {"meta": {"primary_key": "user_id"}}
    tables: list[dict[str, Any]] = [
        {"name": "customers", "config": config, "data_tests": tests, "columns": columns},
        {"name": "users", "config": config},
    ]
    write_dbt_project(folder, tables)
    (folder / "tests" / "generic").mkdir(parents=True)
    (folder / "tests" / "generic" / "own.sql").write_text(OWN)
    for name, (query, _) in SINGULAR.items():
        (folder / "tests" / f"{name}.sql").write_text(query)


def run_dbt(folder: Path, server: Server) -> dict[str, tuple[Audit, int]]:
    """Run all tests of the project, each of which must fail; returns name -> audit and number of failures."""
    from dbt.cli.main import dbtRunner

    options = ["--project-dir", str(folder), "--profiles-dir", str(REPOSITORY / "profiles"), "--quiet"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(os, "environ", os.environ.copy())
        for name, value in {**server.variables, "POSTGRES_DB": "failed_rows", "POSTGRES_USER": "postgres"}.items():
            patch.setenv(name, value)
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setenv("DBT_LOG_PATH", str(folder / "logs"))
        parsed = dbtRunner().invoke(["parse", *options])
        assert parsed.success, parsed.exception
        results = dbtRunner(manifest=parsed.result).invoke(["test", *options]).result.results
    assert {result.status for result in results} == {"fail"}, [r.message for r in results if r.status != "fail"]
    audits = [(audit_of(result.node, parsed.result.sources), result.failures) for result in results]
    return {audit.audit_name: (audit, failures) for audit, failures in audits if audit is not None}


@pytest.mark.parametrize("name", GUILTY)
def test_the_guilty_rows_are_listed(audited: Audited, name: str) -> None:
    if name not in audited.audits:
        pytest.skip("the stand-in does not have this test")
    guilty = GUILTY[name]
    found = audited.problems(name)
    lines: list[int | None] = [*sorted(guilty)] if guilty else [None]
    assert [problem.line for problem in found] == lines
    assert {problem.audit for problem in found} == {name}
    if isinstance(guilty, Mapping):
        assert {problem.line: problem.reason for problem in found} == guilty


def test_an_unknown_reference_may_be_to_somebody_who_was_forgotten(audited: Audited) -> None:
    assert {problem.remedy for problem in audited.problems("relationships")} == {None}
    audited.connection.execute("insert into ops.forgotten values ('x', gen_random_uuid(), 1)")
    for others in (True, False):  # a table may refer to itself
        [remedy] = {problem.remedy for problem in audited.problems("relationships", others=others)}
        assert remedy == "If it names a customer who was forgotten, have it emptied, or waive relationships"
    assert not any(problem.remedy for problem in audited.problems("between"))
    audited.connection.execute("truncate ops.forgotten")


def test_values_and_columns_are_shown(audited: Audited) -> None:
    shown = {name: [(p.column, p.value) for p in audited.problems(name)] for name in ("between", "pair", "expression")}
    assert shown == {
        "between": [("age", "-1"), ("age", "121")],
        "pair": [("begun", "2024-01-05")],
        "expression": [("fee", "-5")],
    }


def test_a_semicolon_at_the_end_does_no_harm(audited: Audited) -> None:
    compiled = audited.audits["between"][0].compiled
    assert [problem.line for problem in audited.problems("between", compiled=f"{compiled} ;\n")] == [4, 6]


@pytest.mark.parametrize("name", ["between", "unique", "relationships"])
def test_sql_that_cannot_be_run_so_is_one_problem(audited: Audited, name: str) -> None:
    [problem] = audited.problems(name, compiled=audited.audits[name][0].compiled + " where (", description="as usual")
    _, failures = audited.audits[name]
    assert (problem.line, problem.reason) == (None, f"as usual ({failures} found)")
    assert audited.connection.info.transaction_status.name == "IDLE"


def test_values_whose_rows_cannot_be_told_are_one_problem_more(audited: Audited) -> None:
    assert [(problem.line, problem.reason) for problem in audited.problems("only_some_told")] == [
        (3, "fails three_or_free"),
        (None, "only_some_told (2 found)"),
    ]


def test_rows_of_more_columns_than_a_function_takes(audited: Audited, tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(120)]
    audited.connection.execute(
        f"create table staging.wide as select n::text as user_id, {', '.join(f'n as {name}' for name in names)},"
        " date '2024-01-31' as as_of from generate_series(1, 9) as n".encode()
    )
    audit, _ = audited.audits["own_of_groups"]
    relation = audit.relation.replace("customers", "wide")
    query = f"select * from {relation} where c0 > 1.5 * (select avg(c0) from {relation})"
    audit = dataclasses.replace(audit, table_name="wide", relation=relation, compiled=query, others=True)
    path = tmp_path / "wide.csv"
    path.write_text(
        ",".join(["user_id", *names]) + "\n" + "".join(f"{','.join(121 * [str(n)])}\n" for n in range(1, 10))
    )
    found = list(failed_rows(audited.connection, audit, 2, TABLE, TableFiles((SourceFile(path),))))
    assert [problem.line for problem in found] == [9, 10]


@pytest.mark.parametrize("compiled", ["", "select 'u1' as user_id -- which says nothing of the table"])
def test_sql_that_does_not_read_the_table_is_one_problem(audited: Audited, compiled: str) -> None:
    assert [problem.line for problem in audited.problems("unique", compiled=compiled)] == [None]


def test_a_failure_that_is_no_longer_there_is_one_problem(audited: Audited) -> None:
    audited.deliver(ROWS.splitlines(keepends=True)[0])
    try:
        assert {name: [p.line for p in audited.problems(name)] for name in ("between", "unique", "relationships")} == {
            "between": [None],
            "unique": [None],
            "relationships": [None],
        }
    finally:
        audited.deliver(ROWS)


def test_unknown_keys_do_not_take_the_square_of_their_number(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner expects the condition to leave one row, and might scan all of the rows for each of them."""
    short = failed_audits.LIMITS.replace("5min", "30s")
    assert short != failed_audits.LIMITS
    monkeypatch.setattr(failed_audits, "LIMITS", short)
    audited.deliver("".join(f",121,3,Other,q%{{s}},,,ghost {number}\n" for number in range(10_000)))
    try:
        audit, _ = audited.audits["relationships_narrow_where"]
        found = failed_rows(audited.connection, audit, 10_000, TABLE, TableFiles((audited.file,)))
        assert [problem.line for problem in found] == list(range(2, 10_002))
    finally:
        audited.deliver(ROWS)


def doubles(counts: Callable[[Row], bool] = lambda _: True) -> Callable[[list[Row]], set[int]]:
    """Lines of rows whose user an earlier row has too; only rows that `counts` accepts are compared."""

    def guilty(rows: list[Row]) -> set[int]:
        users = [row["user_id"] if counts(row) else None for row in rows]
        return {line for line, user in enumerate(users, start=2) if user is not None and user in users[: line - 2]}

    return guilty


def each(wrong: Callable[[Row], bool]) -> Callable[[list[Row]], set[int]]:
    """Lines of rows of which `wrong` is true."""
    return lambda rows: {line for line, row in enumerate(rows, start=2) if wrong(row)}


def missing(*names: str) -> Callable[[Row], bool]:
    """Whether a row lacks one of these values."""
    return lambda row: any(row[name] is None for name in names)


JUDGES = {
    "not_null": each(missing("user_id")),
    "not_null_row_condition": each(lambda r: r["user_id"] is None and (r["age"] or 0) > 100),
    "between": each(lambda r: r["age"] is not None and not 0 <= r["age"] <= 120),
    "between_strictly": each(lambda r: r["age"] is not None and not 0 < r["age"] < 120),
    "between_where": each(lambda r: not missing("age", "fee")(r) and r["fee"] > 0 and not 0 <= r["age"] <= 120),
    "in_set_with_nulls": each(lambda r: r["gender"] not in {"Female", "Male"}),
    "accepted_values_twice_wrong": each(lambda r: r["parent"] not in {None, "u1", "u2", "nobody"}),
    "unique": doubles(),
    "unique_row_condition": doubles(lambda r: (r["age"] or 0) > 0),
    "unique_where": doubles(lambda r: (r["fee"] or 0) > 5),
    "dbt_unique": doubles(),
    "relationships": each(lambda r: r["parent"] not in {None, "u1", "u2"}),
    "relationships_where": each(lambda r: r["parent"] not in {None, "u1", "u2"} and r["age"] is not None),
    "own": each(lambda r: r["fee"] is not None and r["fee"] < 0),
    "own_with_import": each(lambda r: r["gender"] not in {None, "Female", "Male"}),
}
"""The guilty rows of each case, found once more in Python."""

VALUES = {
    "user_id": st.sampled_from([None, "u1", "u2", "u3", "u4", "it''s {} %s"]),
    "age": st.sampled_from([None, -1, 0, 1, 119, 120, 121]),
    "fee": st.sampled_from([None, -1, 0, 6]),
    "gender": st.sampled_from([None, "Female", "Male", "male", "%"]),
    "parent": st.sampled_from([None, "u1", "u2", "nobody", "ghost", "spectre"]),
}


@fuzz(short=25, long=200)
@given(rows=st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=12))
def test_planted_rows_are_those_that_are_listed(audited: Audited, rows: list[Row]) -> None:
    names = HEADER.split(",")
    lines = [",".join("" if row.get(name) is None else str(row[name]) for name in names) for row in rows]
    audited.deliver("".join(f"{line}\n" for line in lines))
    try:
        for name, judge in JUDGES.items():
            if guilty := judge(rows):
                assert [problem.line for problem in audited.problems(name)] == sorted(guilty), name
        assert [problem.line for problem in audited.problems("row_count")] == [None]
    finally:
        audited.deliver(ROWS)
