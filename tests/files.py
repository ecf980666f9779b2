"""Changes the files of a month for a test."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Rows = list[list[str]]


def copy_month(months: Path, month: str, to: Path, as_month: str | None = None) -> Path:
    """Copy a month's folder below `to`; returns the copy."""
    folder = to / f"month_{as_month or month}"
    shutil.copytree(months / f"month_{month}", folder)
    return folder


def edit(path: Path, change: Callable[[Rows], object]) -> None:
    """Change the rows of a CSV file in place; the first is the header."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    change(rows)
    write(path, rows)


def set_value(path: Path, line: int, column: str, value: str) -> None:
    """Set one value; `line` counts records, and the header is 1."""

    def change(rows: Rows) -> None:
        rows[line - 1][rows[0].index(column)] = value

    edit(path, change)


def value_at(path: Path, line: int, column: str) -> str:
    """One value; `line` counts records, and the header is 1."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    return rows[line - 1][rows[0].index(column)]


def write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write rows as the exports are written."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def write_month(folder: Path, customers: Mapping[str, int]) -> None:
    """Write a small valid month; each customer's number sets a value in every table."""
    folder.mkdir(parents=True)
    tables: dict[str, tuple[str, Callable[[int], str]]] = {
        "users": (
            "signup_date,user_gender,user_is_senior,has_family,has_dependents",
            lambda n: f"2023-01-{n % 28 + 1:02d},Female,False,{n % 2 == 0},False",
        ),
        "subscriptions": (
            "months_active,plan_stream_tv,plan_stream_movies,contract_type,paperless_billing,monthly_fee,total_paid,net_service",
            lambda n: f"{n + 1},True,False,One year,True,{n}.25,{n + 1}.5,DSL",
        ),
        "usage_agg_30d": (
            "watch_hours_30d,avg_session_mins_7d,unique_devices_30d,skips_7d,rebuffer_events_7d",
            lambda n: f"{n}.123456789012345678,1.5,{n},0,0",
        ),
        "payments_agg_90d": ("failed_payments_90d", str),
        "support_agg_90d": ("support_tickets_90d,ticket_avg_resolution_hrs_90d", lambda n: f"{n},{n}.5"),
        "labels": ("churn_label", lambda n: str(n % 3 == 0)),
    }
    for table, (header, values) in tables.items():
        lines = [f"user_id,{header}", *(f"{user},{values(number)}" for user, number in customers.items())]
        (folder / f"{table}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
