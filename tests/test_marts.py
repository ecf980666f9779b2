"""What data scientists take out: training sets that never see the future, schemas of the past, versions of profiles."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loader.contract.customers import training_columns
from loader.contract.tables import load_contract
from tests.conftest import TABLES, Streamflow, run_copy
from tests.files import copy_month, edit, set_value
from tests.servers import connect

JANUARY, FEBRUARY, MARCH = "2024-01-31", "2024-02-29", "2024-03-31"
PROFILES = [table.name for table in load_contract() if table.slowly_changing]


def taken(streamflow: Streamflow, as_of: str, label_as_of: str, file: Path) -> list[dict[str, str]]:
    """Write a training set to a file; returns its rows, sorted by customer."""
    streamflow.ok("training-set", "--as-of", as_of, "--label-as-of", label_as_of, "--out", file)
    with file.open(newline="", encoding="utf-8") as stream:
        return sorted(csv.DictReader(stream), key=lambda row: row["user_id"])


def test_one_row_per_customer_known_then_with_the_later_label(february: Streamflow, tmp_path: Path) -> None:
    rows = taken(february, JANUARY, FEBRUARY, tmp_path / "train.csv")
    known = february.rows("select user_id from users_snapshots where as_of = %s order by user_id", JANUARY)
    assert [row["user_id"] for row in rows] == [user for (user,) in known]
    assert list(rows[0]) == ["user_id", "event_timestamp", *(name for name, _, _ in training_columns(load_contract()))]
    assert list(rows[0])[-1] == "churn_label"
    assert {row["event_timestamp"] for row in rows} == {f"{JANUARY} 00:00:00"}
    delivered = dict(
        february.rows(
            "select user_id, churn_label from labels_snapshots where as_of = observed_as_of and as_of = %s", FEBRUARY
        )
    )
    assert None in {delivered.get(row["user_id"]) for row in rows}, "somebody has left meanwhile"
    words = {True: "true", False: "false", None: ""}
    assert all(row["churn_label"] == words[delivered.get(row["user_id"])] for row in rows)


def test_features_are_those_of_the_date(february: Streamflow, tmp_path: Path) -> None:
    """Every feature, of every customer, is the value that history has for that date, and for no other."""
    rows = taken(february, JANUARY, FEBRUARY, tmp_path / "train.csv")
    for name, table, column in training_columns(load_contract()):
        if not column.label:
            query = f'select user_id, "{column.name}"::text from {table.name}_snapshots where as_of = %s'
            then = dict(february.rows(query, JANUARY))
            words = {"true": "true", "false": "false", None: ""}
            expected = {user: words.get(value, value) for user, value in then.items()}
            assert {row["user_id"]: row[name] for row in rows} == expected, name


@pytest.mark.parametrize(
    "order", [("002", "001"), pytest.param(("001", "002"), marks=pytest.mark.long)], ids=" then ".join
)
def test_no_later_value_can_enter(january: Streamflow, months: Path, tmp_path: Path, order: tuple[str, ...]) -> None:
    """The features of January stay, whatever is delivered or restated for later dates, in any order."""
    before = taken(january, JANUARY, JANUARY, tmp_path / "before.csv")
    for month in order:
        january.ok("ingest", month, "--data-dir", months)
    folder = copy_month(months, "001", tmp_path)
    set_value(folder / "subscriptions.csv", 2, "monthly_fee", "99.99")
    january.ok("ingest", "001", "--data-dir", tmp_path, "--restate", "--reason", "a fee was wrong")
    assert taken(january, JANUARY, JANUARY, tmp_path / "after.csv") == before
    features = [{name: value for name, value in row.items() if name != "churn_label"} for row in before]
    for label_as_of in (FEBRUARY, MARCH):
        later = taken(january, JANUARY, label_as_of, tmp_path / "later.csv")
        assert [{name: value for name, value in row.items() if name != "churn_label"} for row in later] == features


CANNOT_BE = {
    f"--as-of {JANUARY}": "--label-as-of is missing",
    f"--as-of {FEBRUARY} --label-as-of {JANUARY}": "older than features",
    f"--as-of {JANUARY} --label-as-of {MARCH}": (
        f"a month as of {MARCH} is not published, or is being restated. There are: 000 ({JANUARY}), 001"
    ),
    f"--as-of {MARCH} --label-as-of {MARCH}": f"a month as of {MARCH} is not published",
    f"--as-of {JANUARY} --label-as-of {FEBRUARY} --columns monthly_fee,wages": "no such column: wages",
    f"--as-of {JANUARY} --label-as-of {FEBRUARY} --columns ,": "no such column: an empty name, an empty name",
    f"--as-of {JANUARY} --label-as-of {FEBRUARY} --out train.xlsx": ".csv or .parquet",
    f"--as-of {JANUARY} --label-as-of {FEBRUARY} --out folder.csv": "folder.csv is a folder: name a file in it",
    f"--as-of {JANUARY} --label-as-of {FEBRUARY} --json": "give --out too",
}


def test_what_cannot_be_is_refused(february: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    for arguments, said in CANNOT_BE.items():
        result = february("training-set", *arguments.split())
        assert result.code == 2, arguments
        assert said in result.err, arguments
        assert "Traceback" not in result.err, arguments


def test_nothing_published_yet(streamflow: Streamflow) -> None:
    result = streamflow("training-set", "--as-of", JANUARY, "--label-as-of", JANUARY)
    assert result.code == 2
    assert "streamflow ingest 000" in result.err


def program(streamflow: Streamflow, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run the installed program in a process of its own."""
    command = [str(Path(sys.executable).with_name("streamflow")), *arguments]
    return subprocess.run(command, env={**os.environ, **streamflow.environment}, capture_output=True, check=True)


def test_columns_narrow_and_stdout_is_csv(february: Streamflow) -> None:
    dates = ("--as-of", JANUARY, "--label-as-of", FEBRUARY)
    said = program(february, "training-set", *dates, "--columns", "churn_label, user_id, monthly_fee").stdout.decode()
    [header, *rows] = list(csv.reader(io.StringIO(said)))
    assert header == ["user_id", "event_timestamp", "churn_label", "monthly_fee"]
    assert len(rows) == 60


def test_parquet_has_the_same_values_with_their_types(february: Streamflow, tmp_path: Path) -> None:
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    rows = taken(february, JANUARY, FEBRUARY, tmp_path / "train.csv")
    file = tmp_path / "made" / "train.parquet"
    result = february.ok("training-set", "--as-of", "000", "--label-as-of", "2024-02", "--out", file, "--json")
    assert result.json["rows"] == len(rows)
    assert result.json["columns"] == list(rows[0])
    table = parquet.read_table(file)
    types = {field.name: str(field.type) for field in table.schema}
    assert types["signup_date"] == "date32[day]"
    assert types["churn_label"] == "bool"
    assert types["monthly_fee"] == "double"
    for row, typed in zip(rows, table.sort_by("user_id").to_pylist(), strict=True):
        for name, value in typed.items():
            text = row[name]
            same = value is None if not text else (float(text) == value if types[name] == "double" else True)
            assert same, name
            if types[name] in {"string", "int32", "date32[day]"} and text:
                assert str(value) == text
            if types[name] == "bool" and text:
                assert value is (text == "true")


def test_a_file_appears_whole_or_not_at_all(february: Streamflow, tmp_path: Path) -> None:
    february.connection.execute("drop view training_set")
    folder = tmp_path / "out"
    folder.mkdir()
    result = february("training-set", "--as-of", JANUARY, "--label-as-of", FEBRUARY, "--out", folder / "train.csv")
    assert result.code == 2
    assert "the view training_set is not there" in result.err
    assert list(folder.iterdir()) == []


@pytest.mark.long
def test_marts_that_are_gone_or_changed_come_back_with_the_next_month(
    january: Streamflow, months: Path, copy: Path
) -> None:
    january.connection.execute("drop view training_set")
    january.ok("ingest", "001", "--data-dir", months)
    assert (
        january.value("select count(*) from training_set where as_of = %s and label_as_of = %s", JANUARY, FEBRUARY)
        == 60
    )
    model = copy / "dbt_project" / "models" / "marts" / "more.sql"
    model.write_text("select count(*) as months_published from {{ ref('published_months') }}\n", encoding="utf-8")
    done = run_copy(copy, january, "ingest", "002", "--data-dir", str(months))
    assert done.returncode == 0, done.stderr
    assert january.value("select months_published from more") == 3


@pytest.mark.long
def test_the_contract_of_a_view_is_held_where_its_sql_is_the_same(
    january: Streamflow, copy: Path, months: Path
) -> None:
    declared = copy / "dbt_project" / "models" / "marts" / "churn_by_contract.yml"
    text = declared.read_text(encoding="utf-8")
    declared.write_text(text.replace("bigint", "int", 1), encoding="utf-8")
    published = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert published.returncode == 5
    assert "This model has an enforced contract that failed" in published.stderr
    assert january.value("select max(as_of)::text from published_months") == FEBRUARY
    declared.write_text(text, encoding="utf-8")
    again = run_copy(copy, january, "ingest", "001", "--data-dir", str(months))
    assert again.returncode == 0
    assert "what had failed was built" in again.stdout


def test_readers_of_marts_neither_wait_nor_lose_what_they_made(january: Streamflow, months: Path) -> None:
    """A view whose SQL is the same is left alone, with its grants, its readers and the views on it."""
    january.connection.execute("create view mine as select * from latest.labels")
    january.connection.execute("grant select on published_months to pg_monitor")
    with contextlib.closing(connect(january.environment, "streamflow")) as reader, reader.transaction():
        reader.execute("select count(*) from latest.users, published_months, training_set")
        january.ok("ingest", "001", "--data-dir", months)
    assert january.value("select max(as_of)::text from mine") == FEBRUARY
    assert january.value("select has_table_privilege('pg_monitor', 'published_months', 'select')")


@pytest.mark.parametrize("in_transaction", ["true", "false"])
@pytest.mark.long
def test_a_post_hook_for_all_marts_costs_nobody_the_views_on_them(
    copy: Path, january: Streamflow, months: Path, in_transaction: str
) -> None:
    january.connection.execute("create view mine as select * from latest.labels")
    settings = copy / "dbt_project" / "dbt_project.yml"
    hook = f"{{sql: \"comment on view {{{{ this }}}} is 'ours'\", transaction: {in_transaction}}}"
    settings.write_text(settings.read_text().replace("    marts:\n", f"    marts:\n      +post-hook: {hook}\n"))
    assert run_copy(copy, january, "ingest", "001", "--data-dir", str(months)).returncode == 0
    assert january.value("select max(as_of)::text from mine") == FEBRUARY
    assert january.value("select obj_description('latest.labels'::regclass)") == "ours"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.long
def test_versions_follow_as_of(january: Streamflow, months: Path, profile: str) -> None:
    """On every date, a delivered row equals the one version that is valid then, also after late months and reruns."""
    for month in ("003", "001", "004", "001", "002"):
        january.ok("ingest", month, "--data-dir", months)
    columns = next(table.column_names for table in load_contract() if table.name == profile)
    row = ", ".join(f'known."{name}"' for name in columns)
    version = ", ".join(f'version."{name}"' for name in columns)
    found = january.rows(
        f"select known.as_of, known.user_id, count(version.user_id), bool_and(({row}) is not distinct from ({version}))"
        f" from {profile}_snapshots as known left join {profile}_scd2 as version on version.user_id = known.user_id"
        " and known.as_of >= version.valid_from and known.as_of < coalesce(version.valid_to, 'infinity')"
        " where known.observed_as_of = known.as_of group by 1, 2"
    )
    assert len(found) > 250
    assert {(count, same) for _, _, count, same in found} == {(1, True)}


@pytest.mark.parametrize(
    "profile", [*PROFILES[:1], *(pytest.param(one, marks=pytest.mark.long) for one in PROFILES[1:])]
)
def test_there_are_no_false_versions(january: Streamflow, months: Path, profile: str) -> None:
    """Neighbouring versions differ, one is current, and the order in which months arrive leaves no trace."""
    for month in ("002", "001", "003"):
        january.ok("ingest", month, "--data-dir", months)
    columns = next(", ".join(table.column_names) for table in load_contract() if table.name == profile)
    validity = "valid_from, valid_to, is_current"
    versions = january.rows(f"select {columns}, {validity} from {profile}_scd2 order by user_id, valid_from")
    for before, after in itertools.pairwise(versions):
        if before[0] == after[0]:
            assert before[:-3] != after[:-3]
            assert before[-2] == after[-3]
        assert before[-1] == (before[0] != after[0])
    told = january.rows(
        f"select user_id, as_of, row({columns})::text from {profile}_snapshots"
        " where observed_as_of = as_of order by 1, 2"
    )
    changes = [
        (user, date)
        for number, (user, date, values) in enumerate(told)
        if number == 0 or told[number - 1][0] != user or told[number - 1][2] != values
    ]
    assert [(version[0], version[-3]) for version in versions] == changes


def test_a_restated_month_takes_its_versions_along(february: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "001", tmp_path)

    def men_only(rows: list[list[str]]) -> None:
        gender = rows[0].index("user_gender")
        for row in rows[1:]:
            row[gender] = "Male"

    edit(folder / "users.csv", men_only)
    query = "select count(*) from users_scd2 where valid_from <= %s and is_current and user_gender = 'Female'"
    assert february.value(query, FEBRUARY) > len(
        february.rows("select 1 from users where observed_as_of = %s", JANUARY)
    )
    february.ok("ingest", "001", "--data-dir", tmp_path, "--restate", "--reason", "gender was wrong")
    left = "select count(*) from users where observed_as_of = %s and user_gender = 'Female'"
    assert february.value(query, FEBRUARY) == february.value(left, JANUARY), "those whom February did not deliver"


def test_production_code_runs_on_the_past(february: Streamflow) -> None:
    then = {name: february.rows(f"select * from {name}_snapshots where as_of = %s", JANUARY) for name in TABLES}
    said = february.ok("freeze", "000").out
    assert "set search_path = as_of_2024_01_31, public" in said
    february.connection.execute("set search_path = as_of_2024_01_31, public")
    for name in TABLES:
        columns = [
            column.name
            for column in february.connection.execute(f"select * from public.{name}".encode()).description or []
        ]
        frozen = february.rows(f"select * from {name} order by user_id")
        assert [
            column.name for column in february.connection.execute(f"select * from {name}".encode()).description or []
        ] == columns
        assert len(frozen) == len(then[name]) == 60
        assert frozen == february.rows(
            f"select {', '.join(columns)} from public.{name}_snapshots where as_of = %s order by user_id", JANUARY
        )
    february.connection.execute("set search_path = public")


def test_a_schema_of_the_past_cannot_be_written_through(february: Streamflow) -> None:
    february.ok("freeze", JANUARY)
    for statement in ("delete from", "update", "insert into"):
        tail = {"update": " set churn_label = true", "insert into": " (user_id) values ('x')"}.get(statement, "")
        with pytest.raises(Exception, match=r"cannot (delete|update|insert)"):
            february.connection.execute(f"{statement} as_of_2024_01_31.labels{tail}".encode())


def test_what_is_in_the_way_of_a_schema_of_the_past_is_named(february: Streamflow) -> None:
    """A view whose table got a column since is dropped and made again, unless somebody built on it."""
    february.ok("freeze", JANUARY)
    february.connection.execute("""
        drop view as_of_2024_01_31.labels;
        create view as_of_2024_01_31.labels as select 'x'::text as renamed;
        create view as_of_2024_01_31.mine as select renamed from as_of_2024_01_31.labels
    """)
    state = february.rows("select * from as_of_2024_01_31.labels")
    refused = february("freeze", JANUARY)
    assert refused.code == 3
    assert "view as_of_2024_01_31.mine depends on view as_of_2024_01_31.labels. Drop what is in the way" in refused.err
    assert "CASCADE" not in refused.err
    assert february.rows("select * from as_of_2024_01_31.labels") == state
    february.connection.execute("drop view as_of_2024_01_31.mine, as_of_2024_01_31.labels")
    february.connection.execute("create table as_of_2024_01_31.labels ()")
    refused = february("freeze", JANUARY)
    assert (refused.code, "Drop what is in the way" in refused.err) == (3, True)


def test_all_dates(february: Streamflow) -> None:
    for _ in range(2):
        assert february.ok("freeze", "--all", "--json").json == {"frozen": ["as_of_2024_01_31", "as_of_2024_02_29"]}


def test_what_to_freeze_must_be_said_and_be_published(february: Streamflow) -> None:
    for arguments in ([], [JANUARY, "--all"], [MARCH], [""]):
        assert february("freeze", *arguments).code == 2, arguments


def test_frozen_when_published_by_setting(january: Streamflow, months: Path) -> None:
    january.environment["STREAMFLOW_FREEZE"] = "true"
    january.ok("ingest", "001", "--data-dir", months)
    assert january.value("select count(*) from as_of_2024_02_29.labels") == january.value(
        "select count(*) from labels_snapshots where as_of = %s", FEBRUARY
    )
    january.ok("ingest", "000", "--data-dir", months)
    assert january.value("select count(*) from as_of_2024_01_31.labels") == 60, "its publication did not make it"


def test_who_reads_production_reads_the_past(february: Streamflow, role_names: list[str], tmp_path: Path) -> None:
    _, reader, _ = role_names
    february.connection.execute(f"create role {reader} login".encode())
    february.connection.execute(f"grant select on labels, training_set, published_months to {reader}".encode())
    if february.on_citus:  # a view there does not read with its owner's rights
        behind = ", ".join(f"{table}_snapshots" for table in TABLES)
        february.connection.execute(f"grant select on {behind}, ops.loads, ops.history, ops.chain to {reader}".encode())
        february.connection.execute(
            f"grant select on ops.published to {reader}; grant usage on schema ops to {reader}".encode()
        )
    february.ok("freeze", JANUARY)
    analyst = february.acting_as(reader)
    assert analyst.value("select count(*) from as_of_2024_01_31.labels") == 60
    if not february.on_citus:
        february.connection.execute(
            f"create policy few on users using (false); alter table users enable row level security;"
            f" grant select on users to {reader}".encode()
        )
        february.connection.execute(f"grant select on as_of_2024_01_31.users to {reader}".encode())
        february.ok("freeze", JANUARY)
    taken(analyst, JANUARY, FEBRUARY, tmp_path / "train.csv")
    with pytest.raises(Exception, match="permission denied"):
        analyst.rows("select * from as_of_2024_01_31.users")
    refused = analyst("freeze", FEBRUARY)
    assert refused.code == 3
    assert "grant create on database" in refused.err


@pytest.mark.long
def test_another_column_is_the_label(copy: Path, january: Streamflow) -> None:
    """An older model or view would take the label from the wrong date, so it is refused until it is made anew."""
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    text = sources.read_text()
    marked = "            config:\n              meta:\n                label: true\n"
    assert text.count(marked) == 1
    text = text.replace(marked, "")
    start = text.index("- name: support_tickets_90d")
    end = text.index("\n", text.index("data_type", start)) + 1
    sources.write_text(text[:end] + marked + text[end:])
    wanted = ("training-set", "--as-of", "000", "--label-as-of", "000")
    refused = run_copy(copy, january, *wanted)
    assert refused.returncode == 2
    assert "its labels are churn_label, but are declared as support_tickets_90d" in " ".join(refused.stderr.split())
    run_copy(copy, january, "models", "training_set", "--overwrite")
    refused = run_copy(copy, january, *wanted)
    assert refused.returncode == 2
    assert "streamflow dbt run --select training_set" in " ".join(refused.stderr.split())
    assert run_copy(copy, january, "dbt", "run", "--select", "training_set").returncode == 0
    header = run_copy(copy, january, *wanted).stdout.partition("\n")[0].split(",")
    assert header[-1] == "support_tickets_90d"
    assert "churn_label" in header


def test_a_label_date_without_a_label(copy: Path, january: Streamflow) -> None:
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    sources.write_text(sources.read_text().replace("label: true", "label: false"))
    refused = run_copy(copy, january, "training-set", "--as-of", "000", "--label-as-of", "000")
    assert refused.returncode == 2
    assert "so omit --label-as-of" in " ".join(refused.stderr.split())


@pytest.mark.long
def test_without_labels_and_without_the_view(copy: Path, january: Streamflow) -> None:
    sources = copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    sources.write_text(sources.read_text().replace("label: true", "label: false"))
    assert run_copy(copy, january, "models", "training_set", "--overwrite").returncode == 0
    january.connection.execute("drop view training_set")
    refused = run_copy(copy, january, "training-set", "--as-of", "000")
    assert refused.returncode == 2
    assert "training_set is not there" in " ".join(refused.stderr.split())
    assert run_copy(copy, january, "dbt", "run", "--select", "training_set").returncode == 0
    assert run_copy(copy, january, "training-set", "--as-of", "000").returncode == 0
