"""The made-up months are always the same. That they pass the audits is tested in tests/test_ingest.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, TABLES, generate


def contents(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}


def test_shipped_months_are_what_the_generator_makes(tmp_path: Path) -> None:
    generate("--out", tmp_path)
    assert contents(tmp_path) == contents(REPOSITORY / "seeds_data")


def test_a_month_does_not_depend_on_how_many_are_made(tmp_path: Path) -> None:
    generate("--out", tmp_path / "three", "--users", 50, "--months", 3)
    generate("--out", tmp_path / "last", "--users", 50, "--months", 1, "--first-month-number", 2)
    three = contents(tmp_path / "three")
    assert len(three) == 3 * len(TABLES)
    assert {path: text for path, text in three.items() if "month_002" in path} == contents(tmp_path / "last")


def test_another_seed_makes_other_customers(tmp_path: Path) -> None:
    for seed in (1, 2):
        generate("--out", tmp_path / str(seed), "--users", 50, "--months", 1, "--seed", seed)
    one, other = ((tmp_path / seed / "month_000" / "users.csv").read_text().split("\n")[1:-1] for seed in "12")
    assert len(one) == len(other) == 50
    assert not set(one) & set(other)


def test_months_in_which_only_usage_changes(tmp_path: Path) -> None:
    generate("--out", tmp_path, "--users", 50, "--months", 2, "--only-usage-changes")
    for table in TABLES:
        first, second = ((tmp_path / f"month_00{month}" / f"{table}.csv").read_bytes() for month in "01")
        assert (first == second) == (table != "usage_agg_30d")


def test_months_of_the_same_customers(tmp_path: Path) -> None:
    generate("--out", tmp_path, "--users", 50, "--months", 3, "--join", 0, "--churn", 0)
    first, last = ((tmp_path / f"month_00{month}" / "users.csv").read_text().splitlines() for month in "02")
    assert [line.split(",")[0] for line in first] == [line.split(",")[0] for line in last]
    assert len(first) == 1 + 50
    usage = [(tmp_path / f"month_00{month}" / "usage_agg_30d.csv").read_bytes() for month in "02"]
    assert usage[0] != usage[1]


def test_no_row_of_the_real_months_is_among_them(real_months: Path) -> None:
    for table in TABLES:
        real = {line for month in "01" for line in (real_months / f"month_00{month}" / f"{table}.csv").open()}
        made = {
            line for month in "01" for line in (REPOSITORY / "seeds_data" / f"month_00{month}" / f"{table}.csv").open()
        }
        assert len(real & made) == 1, "only the header may be the same"


@pytest.mark.parametrize("table", TABLES)
def test_all_files_of_a_month_hold_the_same_customers(months: Path, table: str) -> None:
    for folder in months.iterdir():
        users = [line.split(",")[0] for line in (folder / "users.csv").read_text().splitlines()]
        assert [line.split(",")[0] for line in (folder / f"{table}.csv").read_text().splitlines()] == users
