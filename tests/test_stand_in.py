"""The audits say the same whether they run on dbt_expectations or on the stand-in that the repository carries."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from loader.contract import packages
from loader.contract.packages import audit_package
from loader.errors import SurroundingsFailed, WrongUsage
from loader.project import PACKAGE, SOURCES
from tests.conftest import REPOSITORY, Streamflow, run_copy
from tests.files import copy_month, edit, set_value

REAL = Path(os.environ.get("STREAMFLOW_TEST_DBT_PACKAGES", REPOSITORY / "dbt_project" / "dbt_packages"))
"""The folder that holds the real dbt_expectations and the dbt_date that it needs."""

SPOILT = {
    "users": [("user_id", " padded"), ("user_id", ""), ("user_gender", "unknown"), ("signup_date", "2030-01-01")],
    "subscriptions": [
        ("months_active", "-1"), ("months_active", "1201"), ("monthly_fee", "-0.01"), ("total_paid", "-1"),
        ("contract_type", "Forever"), ("net_service", "Carrier pigeon"),
    ],
    "usage_agg_30d": [
        ("watch_hours_30d", "744.0000001"), ("watch_hours_30d", "-1"), ("avg_session_mins_7d", "-1"),
        ("unique_devices_30d", "-1"), ("skips_7d", "-1"), ("rebuffer_events_7d", "-1"),
    ],
    "payments_agg_90d": [("failed_payments_90d", "-1")],
    "support_agg_90d": [("support_tickets_90d", "-1"), ("ticket_avg_resolution_hrs_90d", "-0.5")],
    "labels": [("user_id", "stranger"), ("churn_label", "")],
}  # fmt: skip


@pytest.fixture
def spoilt(months: Path, tmp_path: Path) -> Path:
    """A month in which every audit that looks at rows finds bad ones, among sound rows and rows of nulls."""
    folder = copy_month(months, "000", tmp_path / "data")
    for table, values in SPOILT.items():
        path = folder / f"{table}.csv"
        for line, (column, value) in enumerate(values, start=3):
            set_value(path, line, column, value)
        edit(path, lambda rows: rows.append(rows[-1]))
        edit(path, lambda rows: rows.insert(30, [rows[30][0], *[""] * (len(rows[0]) - 1)]))
    path = folder / "subscriptions.csv"
    for line, column, value in (
        (20, "net_service", "No"), (20, "plan_stream_tv", "True"), (21, "months_active", "5"), (21, "total_paid", "0"),
    ):  # fmt: skip
        set_value(path, line, column, value)
    return tmp_path / "data"


def verdicts(copy: Path, streamflow: Streamflow, data: Path, command: str = "check") -> dict[str, str]:
    """Audit -> verdict on the spoilt month, with the package that the copy has."""
    result = run_copy(copy, streamflow, command, "000", "--data-dir", str(data))
    assert result.returncode == 1, result.stderr
    load = "(select max(load_id) from ops.loads)"
    return dict(streamflow.rows(f"select audit_name, status from ops.audits where load_id = {load}"))


def is_real(packages: Path) -> bool:
    """Whether a folder of packages has the real dbt_expectations."""
    project = packages / "dbt_expectations" / "dbt_project.yml"
    return project.is_file() and "stand-in" not in project.read_text()


def write_dbt_project(folder: Path, tables: list[dict[str, Any]]) -> None:
    """Write a dbt project with these tables in staging and nothing else."""
    project = {"name": "small", "version": "1.0", "profile": "streamflow", "vars": {"dbt_date:time_zone": "UTC"}}
    flags = {"require_generic_test_arguments_property": True, "send_anonymous_usage_stats": False}
    (folder / "dbt_project.yml").write_text(yaml.safe_dump({**project, "flags": flags}))
    (folder / "models").mkdir()
    sources = {"version": 2, "sources": [{"name": "staging", "schema": "staging", "tables": tables}]}
    (folder / "models" / "_sources.yml").write_text(yaml.safe_dump(sources))


def empty_project(folder: Path) -> Path:
    """Turn a folder into a project that declares nothing."""
    (folder / SOURCES).parent.mkdir(parents=True)
    (folder / SOURCES).touch()
    return folder


def use_stand_in(copy: Path) -> None:
    """Install the stand-in in the copy."""
    installed = copy / "dbt_project" / "dbt_packages"
    shutil.rmtree(installed, ignore_errors=True)
    shutil.copytree(packages.STAND_IN, installed / "dbt_expectations")


def test_stand_in_finds_what_is_wrong(copy: Path, streamflow: Streamflow, spoilt: Path) -> None:
    use_stand_in(copy)
    found = verdicts(copy, streamflow, spoilt)
    passed = {name for name, status in found.items() if status == "pass"}
    about_tables = (
        "most_of_month_before_are_there",
        "row_count_close_to_month_before",
        "few_values_missing",
        "not_stale_or_hollow",
    )
    assert {name for name in passed if not name.endswith(about_tables)} == {
        # Only users.csv has a row without user_id, and a cluster cannot store that row.
        *(f"audit_{table}_user_id_not_null" for table in ("subscriptions", "usage", "payments", "support", "labels")),
        *(["audit_users_user_id_not_null"] if streamflow.on_citus else []),
    }
    assert {name for name, status in found.items() if status == "warn"} >= {
        "audit_subscriptions_no_streaming_without_net_service",
        "audit_subscriptions_nothing_paid_only_in_first_month",
    }


def test_both_packages_give_the_same_verdicts(copy: Path, streamflow: Streamflow, spoilt: Path) -> None:
    if not is_real(REAL):
        pytest.skip("the real dbt_expectations is not at hand")
    installed = copy / "dbt_project" / "dbt_packages"
    shutil.rmtree(installed, ignore_errors=True)
    shutil.copytree(REAL, installed)
    real = verdicts(copy, streamflow, spoilt)
    assert verdicts(copy, streamflow, spoilt, "ingest") == real
    use_stand_in(copy)
    assert verdicts(copy, streamflow, spoilt) == real


def test_set_up_installs_packages_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, use_project: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("DBT_PACKAGE_HUB_URL", "http://127.0.0.1:9")
    folder = empty_project(tmp_path / "ours")
    use_project(folder)
    shutil.copy(REPOSITORY / "dbt_project" / "dbt_project.yml", folder)
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dbt_project.yml").write_text(f"{{name: {name}, version: '1.0', config-version: 2}}")
    git = ["git", "-C", str(tmp_path / "far"), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "far"]):
        subprocess.run([*git, *words], check=True)
    hub: dict[str, Any] = {"package": "metaplane/dbt_expectations", "version": "0.10.9"}
    own, near, far = {"local": str(packages.OWN_LINK)}, {"local": "../near"}, {"git": f"file://{tmp_path / 'far'}"}

    def install(*named: dict[str, Any]) -> str:
        (folder / "packages.yml").write_text(yaml.safe_dump({"packages": named}))
        return packages.install()

    assert packages.lacking() == ["dbt_expectations"]
    assert install(own, hub).startswith(
        "dbt packages: dbt's package hub does not answer, so the audits run on the stand-in ("
    )
    assert packages.lacking() == []
    assert "stand-in" in install(own, hub, near)
    assert (folder / "dbt_packages" / "near" / "dbt_project.yml").is_file()
    far["revision"] = "HEAD"
    with pytest.raises(SurroundingsFailed, match=r"not installed: file:.*hub does not answer") as refused:
        install(own, hub, near, far)
    with pytest.raises(SurroundingsFailed, match="run `streamflow setup`"):
        packages.require_packages()
    in_its_place = {"local": str(refused.value).partition("`- local: ")[2].partition("`")[0]}
    assert not Path(in_its_place["local"]).is_absolute()
    assert "installed by `dbt deps`" in install(own, in_its_place, near, far)
    packages.require_packages()
    there = sorted((folder / "dbt_packages").iterdir())
    assert folder / "dbt_packages" / "far" in there
    (tmp_path / "far").rename(tmp_path / "gone")
    assert install(own, in_its_place, near, far).endswith("stand-in is there")
    with pytest.raises(SurroundingsFailed, match=r"not installed: ../nowhere; `dbt deps` fails"):
        install(own, in_its_place, {"local": "../nowhere"}, near, far)
    with pytest.raises(SurroundingsFailed, match="not installed: dbt-labs/dbt_utils; dbt's package hub"):
        install(own, {**hub, "package": "dbt-labs/dbt_utils"})
    assert sorted((folder / "dbt_packages").iterdir()) == there
    assert "so the audits run on the stand-in" in install(own, hub, near)
    (folder / "dbt_packages" / "dbt_expectations" / "dbt_project.yml").write_text(
        "{name: dbt_expectations, version: '1'}"
    )
    assert install(own, hub, near).endswith("dbt_expectations 1 is there")
    with pytest.raises(SurroundingsFailed, match="not installed: file:"):
        install(own, hub, {**far, "git": f"file://{tmp_path / 'other'}"})
    (folder / "packages.yml").write_text("- local: ../near\n")
    with pytest.raises(WrongUsage, match="cannot be read as a list of dbt packages"):
        packages.require_packages()


LOCK = """
packages:
  - {name: dbt_date, package: godatadriven/dbt_date, version: 0.9.2}
  - {name: dbt_expectations, package: metaplane/dbt_expectations, version: 0.10.9}
sha1_hash: 0
"""


@pytest.mark.parametrize(
    ("says", "lock", "recorded"),
    [
        ("0.6.0", LOCK, "0.10.9"),
        ("0.6.0", LOCK.replace("version: 0.10.9", "revision: 77d3856"), "77d3856"),
        ("0.6.0", LOCK.replace("name: dbt_expectations", "name: another"), "0.6.0"),
        ("0.6.0", "", "0.6.0"),
        ("0.10.4-stand-in", LOCK, "0.10.4-stand-in"),
    ],
)
def test_the_version_that_was_locked_is_recorded(
    tmp_path: Path, use_project: Callable[[Path], None], says: str, lock: str, recorded: str
) -> None:
    installed = tmp_path / "dbt_packages" / "dbt_expectations"
    installed.mkdir(parents=True)
    (installed / "dbt_project.yml").write_text(f"name: dbt_expectations\nversion: '{says}'\n")
    use_project(empty_project(tmp_path))
    assert audit_package() == f"dbt_expectations {says}"
    (tmp_path / "package-lock.yml").write_text(lock)
    assert audit_package() == f"dbt_expectations {recorded}"


def test_a_package_may_have_no_version(tmp_path: Path, use_project: Callable[[Path], None]) -> None:
    installed = tmp_path / "dbt_packages" / "dbt_expectations"
    installed.mkdir(parents=True)
    (installed / "dbt_project.yml").write_text("name: dbt_expectations\n")
    use_project(empty_project(tmp_path))
    assert audit_package() == "dbt_expectations without a version"
    (tmp_path / "package-lock.yml").write_text(LOCK)
    assert audit_package() == "dbt_expectations 0.10.9"


def test_a_link_that_a_killed_process_with_the_same_id_left_is_in_nobodys_way(
    tmp_path: Path, use_project: Callable[[Path], None]
) -> None:
    use_project(empty_project(tmp_path))
    left = tmp_path / "dbt_packages" / f".streamflow.{os.getpid()}"
    left.parent.mkdir(exist_ok=True)
    left.symlink_to("/nowhere")
    packages.link_own_package()
    assert (left.parent / "streamflow").resolve() == PACKAGE.resolve()
    assert not left.is_symlink()


REFUSED: dict[str, dict[str, Any]] = {
    "group_by": {"expect_table_row_count_to_be_between": {"min_value": 1, "group_by": ["a"]}},
    "group_by_columns": {"expression_is_true": {"expression": "count(*) > 1", "group_by_columns": ["a"]}},
    "flags": {"expect_column_values_to_match_regex": {"column_name": "a", "regex": "a", "flags": "i"}},
    "ignore_row_if": {
        "expect_compound_columns_to_be_unique": {"column_list": ["a", "b"], "ignore_row_if": "any_value_is_missing"}
    },
    "quote_values": {
        "expect_column_values_to_be_in_set": {"column_name": "a", "value_set": [1], "quote_values": False}
    },
}


@pytest.mark.parametrize("argument", [*REFUSED, None])
def test_the_stand_in_refuses_what_it_does_not_know(tmp_path: Path, argument: str | None) -> None:
    from dbt.cli.main import dbtRunner

    known = {"expect_table_row_count_to_be_between": {"min_value": 1}}
    tests = [
        {f"dbt_expectations.{test}": {"arguments": given}} for test, given in REFUSED.get(argument or "", known).items()
    ]
    write_dbt_project(tmp_path, [{"name": "t", "data_tests": tests}])
    shutil.copytree(packages.STAND_IN, tmp_path / "dbt_packages" / "dbt_expectations")
    options = ["--project-dir", tmp_path, "--profiles-dir", REPOSITORY / "profiles", "--log-path", tmp_path, "--quiet"]
    result = dbtRunner().invoke(["parse", *map(str, options)])
    assert result.success == (argument is None)
    if argument:
        assert f"does not know the argument `{argument}`; install the real package" in str(result.exception)


def test_without_a_package_nothing_is_landed(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr(packages, "lacking", lambda: ["dbt_expectations"])
        result, by_hand = january("ingest", "001", "--data-dir", months), january("dbt", "build")
    for refused in (result, by_hand):
        assert refused.code == 3
        assert "dbt packages are not installed (dbt_expectations): run `streamflow setup`" in refused.err
    assert january.value("select count(*) from staging.users where as_of > '2024-01-31'") == 0
    january.ok("ingest", "001", "--data-dir", months)
