"""Equal numbers with different digits, like 29.9 and 29.90, and the largest and smallest numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.conftest import Streamflow
from tests.files import Rows, copy_month, edit, set_value, value_at

FEE, OF_FEES = "monthly_fee", "subscriptions.csv"
WRITTEN = {"000": "29.90", "001": "29.9", "002": "29.900"}


@pytest.fixture
def three(months: Path, tmp_path: Path) -> tuple[Path, str]:
    """Three months in which one customer's fee is the same number with different digits; and the customer's id."""
    user = value_at(months / "month_000" / OF_FEES, 2, "user_id")
    for month, text in WRITTEN.items():
        write_fee(copy_month(months, month, tmp_path), user, text)
    return tmp_path, user


def write_fee(folder: Path, user: str, text: str) -> None:
    """Write a customer's fee into a month's file."""

    def change(rows: Rows) -> None:
        key, fee = rows[0].index("user_id"), rows[0].index(FEE)
        [row] = [row for row in rows if row[key] == user]
        row[fee] = text

    edit(folder / OF_FEES, change)


def fees(streamflow: Streamflow, user: str) -> tuple[str, list[str]]:
    """A customer's fee, as text, in production and in history, oldest date first."""
    query = f"select {FEE}::text from subscriptions_snapshots where user_id = %s order by as_of"
    return (
        str(streamflow.value(f"select {FEE}::text from subscriptions where user_id = %s", user)),
        [text for (text,) in streamflow.rows(query, user)],
    )


@pytest.mark.long
@pytest.mark.parametrize("order", ["210", "012", "102"])
def test_the_newest_deliverys_digits_stand_in_every_order(
    streamflow: Streamflow, three: tuple[Path, str], order: str
) -> None:
    folder, user = three
    for month in order:
        streamflow.ok("ingest", month, "--data-dir", folder)
    assert fees(streamflow, user) == ("29.900", ["29.90", "29.9", "29.900"])
    assert streamflow.dbt("build", "--full-refresh").success
    assert fees(streamflow, user)[0] == "29.900"
    streamflow.ok("verify")


def test_other_digits_are_no_change(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """The same number with other digits is no update, is not refused as another row, and makes no new version."""
    folder = copy_month(months, "000", tmp_path)
    text = value_at(folder / OF_FEES, 2, FEE)
    user = value_at(folder / OF_FEES, 2, "user_id")
    set_value(folder / OF_FEES, 2, FEE, str(Decimal(text).quantize(Decimal("0.0000"))))
    again = january.ok("ingest", "000", "--data-dir", tmp_path, "--json").json
    assert {count["updated"] for count in again["counts"]} == {0}
    copied = copy_month(tmp_path, "000", tmp_path, "001")
    for path in copied.iterdir():
        path.touch()
    february = january.ok("ingest", "001", "--data-dir", tmp_path, "--json").json
    assert {count["table"]: count["updated"] for count in february["counts"]}["subscriptions"] == 0
    assert january.value("select count(*) from subscriptions_scd2 where user_id = %s", user) == 1


@pytest.mark.long
def test_a_restatements_digits_stand(streamflow: Streamflow, three: tuple[Path, str]) -> None:
    folder, user = three
    for month in ("000", "001"):
        streamflow.ok("ingest", month, "--data-dir", folder)
    write_fee(folder / "month_001", user, "29.9000")
    for name in ("users.csv", OF_FEES):  # a real difference: other digits alone restate nothing
        edit(folder / "month_001" / name, lambda rows: rows.append(["new", *rows[1][1:]]))
    streamflow.ok("ingest", "001", "--data-dir", folder, "--restate", "--reason", "two more digits")
    assert fees(streamflow, user) == ("29.9000", ["29.90", "29.9000"])
    streamflow.ok("verify")


def test_digits_of_production_that_were_changed_are_found(january: Streamflow) -> None:
    january.connection.execute(b"update subscriptions set monthly_fee = (monthly_fee::text || '0')::numeric")
    assert january("verify").code == 1
    assert january.dbt("build", "--full-refresh").success
    january.ok("verify")


@pytest.mark.parametrize("number", ["9.9e99", pytest.param("1e-300", marks=pytest.mark.long)])
def test_the_largest_and_smallest_numbers_break_nothing(
    january: Streamflow, months: Path, tmp_path: Path, number: str
) -> None:
    folder = copy_month(months, "001", tmp_path)
    for line in range(2, 30):
        set_value(folder / OF_FEES, line, "total_paid", number)
    january.ok("ingest", "001", "--data-dir", tmp_path)
    text = january.value(
        "select max(total_paid)::text from subscriptions_snapshots where total_paid = %s::numeric", number
    )
    assert Decimal(text) == Decimal(number), "every digit is kept"
    shown = january.ok("report", "001", "--json", "--out", tmp_path / "report.html").json
    assert "inf" not in json.dumps(shown["report"]).lower()
    for name in ("train.csv", "train.parquet"):
        dates = ("--as-of", "2024-02-29", "--label-as-of", "2024-02-29")
        january.ok("training-set", *dates, "--out", tmp_path / name)
    from pyarrow import parquet

    paid = parquet.read_table(tmp_path / "train.parquet").column("total_paid").to_pylist()
    assert float(number) in paid
