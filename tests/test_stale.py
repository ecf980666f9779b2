"""Deliveries that say nothing new: rows of the month before, columns that have become constant or empty."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loader.readers.month_states import warned
from tests.conftest import REPOSITORY, Streamflow
from tests.files import Rows, copy_month, edit

BEFORE = "2024-01-31"
SAME = f"every row is as on {BEFORE}"
FOUND = "select table_name, finding from ops.audits where finding is not null and status = 'warn' order by 1"


def setting(column: str, value: Callable[[int], str]) -> Callable[[Rows], None]:
    """A change that sets a column of each row to a value of the row's number, from 1."""

    def change(rows: Rows) -> None:
        place = rows[0].index(column)
        for number, row in enumerate(rows[1:], 1):
            row[place] = value(number)

    return change


def in_another_form(rows: Rows) -> None:
    """The same rows, the last one first, with more digits than they need."""
    fee = rows[0].index("monthly_fee")
    for row in rows[1:]:
        row[fee] += "0" if "." in row[fee] else ""
    rows[1:] = rows[:0:-1]


def test_stale_and_hollow_tables_are_warned_of(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "000", tmp_path, as_month="001")
    edit(folder / "subscriptions.csv", in_another_form)
    edit(folder / "usage_agg_30d.csv", setting("skips_7d", lambda _: "3"))
    edit(folder / "usage_agg_30d.csv", setting("unique_devices_30d", lambda _: ""))
    edit(folder / "payments_agg_90d.csv", setting("failed_payments_90d", lambda number: str(number % 5)))
    edit(folder / "support_agg_90d.csv", setting("support_tickets_90d", lambda number: "4" if number > 1 else ""))
    edit(folder / "labels.csv", setting("churn_label", lambda number: str(number % 3 == 0)))
    done = january.ok("ingest", "001", "--data-dir", tmp_path)

    hollow = (
        f"skips_7d has a single value, and had more on {BEFORE}",
        f"unique_devices_30d is empty, and was not on {BEFORE}",
    )
    assert dict(january.rows(FOUND)) == {
        "subscriptions": SAME,
        "support_agg_90d": f"support_tickets_90d has a single value, and had more on {BEFORE}",
        "usage_agg_30d": "; ".join(hollow),
        "users": SAME,
    }
    assert f"subscriptions.csv, users.csv  {SAME}" in re.sub(" {3,}", "  ", done.out)
    [line] = [line for line in january.ok("status").out.splitlines() if line.startswith("audits warned: 001")]
    assert f"subscriptions, users: {SAME}" in line
    findings = january.ok("report", "001", "--json").json["report"]["findings"]
    assert findings[0] == {"level": "alert", "text": f"subscriptions, users: {SAME}", "anchor": "audits"}


@pytest.mark.long
def test_one_row_beyond_those_that_are_looked_at_first(streamflow: Streamflow, tmp_path: Path) -> None:
    streamflow.ok("ingest", "000")
    folder = copy_month(REPOSITORY / "seeds_data", "000", tmp_path, as_month="001")
    edit(folder / "labels.csv", lambda rows: rows[-1].__setitem__(1, str(rows[-1][1] == "False")))
    edit(folder / "usage_agg_30d.csv", setting("skips_7d", lambda number: str(number // 7043)))
    streamflow.ok("check", "001", "--data-dir", tmp_path)
    stale = {"users", "subscriptions", "payments_agg_90d", "support_agg_90d"}
    assert dict(streamflow.rows(FOUND)) == dict.fromkeys(stale, SAME)


def test_sentences_are_grouped() -> None:
    audits: list[dict[str, Any]] = [
        {"audit": "a", "table": "users", "column": None, "failures": 1, "finding": SAME},
        {"audit": "b", "table": "labels", "column": "churn_label", "failures": 1200, "finding": None},
        {"audit": "c", "table": "usage", "column": None, "failures": 1, "finding": SAME},
        {"audit": "d", "table": "usage", "column": None, "failures": 7, "finding": None},
    ]
    assert list(warned(audits)) == [
        f"users, usage: {SAME}", "labels.churn_label: b warned: 1,200", "usage: d warned: 7"
    ]  # fmt: skip
