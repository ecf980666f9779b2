"""A user's own tables for tests: a shop, with keys and references of every kind, and three months of files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import Streamflow, run_copy

JANUARY, FEBRUARY, MARCH, APRIL = "2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"
KEYS = {
    "countries": ("code",),
    "accounts": ("account_id",),
    "invoices": ("account_id", "invoice_no"),
    "payments": ("payment_no",),
    "profiles": ("holder",),
}
CUSTOMER = {"accounts": "account_id", "invoices": "account_id", "payments": "payer", "profiles": "holder"}
Files = dict[str, list[str]]
FILES: dict[str, Files] = {
    JANUARY: {
        "countries": ["code,tax", "DE,19", "FR,20"],
        "accounts": ["account_id,country,churned", "71,DE,false", "72,DE,false", "73,FR,false"],
        "invoices": ["account_id,invoice_no,amount", "71,1,10.5", "71,2,7", "72,1,3"],
        "payments": ["payment_no,payer,paid", "7,,1", "8,71,10.5", "9,73,2"],
        "profiles": ["holder,segment", "71,gold", "72,gold"],
    },
    FEBRUARY: {
        "countries": ["code,tax", "DE,16", "FR,20"],
        "accounts": ["account_id,country,churned", "71,DE,true", "72,DE,false", "73,FR,false", "74,FR,false"],
        "invoices": ["account_id,invoice_no,amount", "71,2,8", "72,1,3", "72,2,5"],
        "payments": ["payment_no,payer,paid", "6,74,4", "8,71,11", "9,72,2"],
        "profiles": ["holder,segment", "71,silver", "72,gold"],
    },
    MARCH: {
        "countries": ["code,tax", "DE,16", "FR,20", "IT,22"],
        "accounts": ["account_id,country,churned", "71,DE,true", "73,FR,true", "74,FR,false"],
        "invoices": ["account_id,invoice_no,amount", "71,3,1", "73,1,2"],
        "payments": ["payment_no,payer,paid", "5,73,1", "8,71,11"],
        "profiles": ["holder,segment", "71,silver", "74,gold"],
    },
}
Row = tuple[str | None, ...]


def column(name: str, data_type: str, *tests: Any, **meta: bool) -> dict[str, Any]:
    """A declared column."""
    return {"name": name, "data_type": data_type, "data_tests": list(tests), "config": {"meta": meta}}


def known_to_accounts() -> dict[str, Any]:
    """The audit that the value is an account_id in the same delivery."""
    return {"relationships": {"arguments": {"to": "source('staging', 'accounts')", "field": "account_id"}}}


def table(name: str, meta: dict[str, Any], columns: list[dict[str, Any]], *tests: Any) -> dict[str, Any]:
    """A declared table."""
    return {"name": name, "config": {"meta": meta}, "columns": columns, "data_tests": list(tests)}


COMPOUND = {
    "dbt_expectations.expect_compound_columns_to_be_unique": {
        "arguments": {"column_list": ["account_id", "invoice_no"]}
    }
}
BY_PAYER = {"table": "accounts", "columns": "payer"}
BY_HOLDER = {"table": "accounts", "columns": ["holder"]}
TABLES: list[dict[str, Any]] = [
    table("countries", {"primary_key": "code"}, [column("code", "text", "unique"), column("tax", "numeric")]),
    table(
        "invoices",
        {"primary_key": ["account_id", "invoice_no"], "references": "accounts", "slowly_changing": True},
        [column("account_id", "bigint", known_to_accounts()), column("invoice_no", "int"), column("amount", "numeric")],
        COMPOUND,
    ),
    table(
        "payments",
        {"primary_key": ["payment_no"], "references": BY_PAYER},
        [
            column("payment_no", "int", "unique"),
            column("payer", "bigint", known_to_accounts()),
            column("paid", "numeric"),
        ],
    ),
    table(
        "accounts",
        {"primary_key": "account_id"},
        [column("account_id", "bigint", "unique"), column("country", "text"), column("churned", "boolean", label=True)],
    ),
    table(
        "profiles",
        {"primary_key": "holder", "references": BY_HOLDER},
        [column("holder", "bigint", "unique", known_to_accounts()), column("segment", "text")],
    ),
]


class Shop:
    """A copy of the project that declares these tables instead of the shipped ones, and a folder for their files."""

    def __init__(self, copy: Path, streamflow: Streamflow, data: Path) -> None:
        self.copy, self.streamflow, self.data = copy, streamflow, data

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run the copy's command line, which must end with `code`. Returns stdout, or stderr if `code` is not 0."""
        done = run_copy(self.copy, self.streamflow, *words)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str) -> Any:
        """The parsed output of a command with --json."""
        return json.loads(self(*words, "--json"))

    def deliver(self, as_of: str, files: Files) -> str:
        """Write a month's files; returns its number."""
        month = f"{int(as_of[5:7]) - 1:03d}"
        folder = self.data / f"month_{month}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, lines in files.items():
            (folder / f"{name}.csv").write_text("\n".join([*lines, ""]))
        return month

    def ingest(self, as_of: str, files: Files, *more: str) -> None:
        """Deliver a month and ingest it."""
        self("ingest", self.deliver(as_of, files), "--data-dir", str(self.data), *more)

    def rows(self, name: str, as_of: str | None = None) -> list[Row]:
        """The rows of a table in production, or in history as of a date: values as text, and observed_as_of."""
        columns = ", ".join(f"{column}::text" for column in [*FILES[JANUARY][name][0].split(","), "observed_as_of"])
        if as_of is None:
            return sorted(self.streamflow.rows(f"select {columns} from {name}"), key=str)
        return sorted(self.streamflow.rows(f"select {columns} from {name}_snapshots where as_of = %s", as_of), key=str)

    def holds(self, files: Mapping[str, Files], history: Mapping[str, list[str]]) -> None:
        """Assert that production follows from all files and each as_of of history from the given dates; then verify."""
        for name in KEYS:
            assert self.rows(name) == state(name, files, sorted(files)), name
            for as_of, dates in history.items():
                assert self.rows(name, as_of) == state(name, files, dates), (name, as_of)
        self("verify")


def state(name: str, files: Mapping[str, Files], dates: Sequence[str]) -> list[Row]:
    """The newest row of each key in the files of these dates, each with its date."""
    newest: dict[Row, Row] = {}
    for date in dates:
        for cells in csv.DictReader(files[date][name]):
            newest[tuple(cells[part] for part in KEYS[name])] = (*(cell or None for cell in cells.values()), date)
    return sorted(newest.values(), key=str)


def without(files: Mapping[str, Files], customer: str, payment: str) -> dict[str, Files]:
    """The files without the customer's rows, and without a payment that once was the customer's."""
    kept: dict[str, Files] = {}
    for date, tables in files.items():
        kept[date] = {name: [lines[0]] for name, lines in tables.items()}
        for name, lines in tables.items():
            for line, cells in zip(lines[1:], csv.DictReader(lines), strict=True):
                if cells.get(CUSTOMER.get(name, "")) != customer and cells.get("payment_no") != payment:
                    kept[date][name] = [*kept[date][name], line]
    return kept


def write_sources(path: Path, tables: list[dict[str, Any]]) -> Path:
    """Declare these tables, and no others."""
    sources = [{"name": "staging", "schema": "staging", "tables": tables}]
    path.write_text(yaml.safe_dump({"version": 2, "sources": sources}, sort_keys=False))
    return path
