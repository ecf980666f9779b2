"""README.md, from its first command to its last output, with the shipped months."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY, TABLES, Streamflow
from tests.files import copy_month, edit, set_value

BLOCK = re.compile(r"^```(sh|sql|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = "from loader.cli.program import program; program()"
SHIPPED = REPOSITORY / "seeds_data"


def lines(text: str) -> list[str]:
    """The lines to compare, without durations, paths and hashes."""
    text = re.sub(r"\d+\.\d s\b", "N s", re.sub(r"\b[0-9a-f]{64}\b", "HASH", text))
    text = re.sub(r"\S+/(rejects|reports)/", r"\1/", text)
    shown = [line.rstrip() for line in text.splitlines()]
    return [line for line in shown if line and not re.match(r"database:|  open it|\(\d+ rows\)", line)]


def psql(streamflow: Streamflow, query: str) -> str:
    """What psql prints."""
    program = [sys.executable, "-c", PROGRAM, "db", "psql", "-c", query]
    environment = {**os.environ, **streamflow.environment}
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_readme_shows_what_is_printed(streamflow: Streamflow, tmp_path: Path) -> None:
    blocks = BLOCK.findall((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    shown = [text for language, text in blocks if language == "text"]
    assert [language for language, _ in blocks] == ["sh", "text", *["sql", "text"] * 3, "sh", "text"]
    assert re.findall(r"make ingest MONTH=(\d+)", blocks[0][1]) == ["000", "001"]

    del streamflow.environment["STREAMFLOW_REPORT"]
    streamflow.ok("ingest", "000")
    second = streamflow.ok("ingest", "001")
    *steps, report = lines(second.err)  # a terminal shows the line about the report last, after stdout
    assert lines(shown[0]) == [*steps, *lines(second.out), report]
    for (_, query), output in zip(blocks[2:8:2], shown[1:4], strict=True):
        assert lines(output) == lines(psql(streamflow, query))
    for table in TABLES:
        counted = streamflow.rows(f"select as_of::text, count(*) from {table}_snapshots group by 1 order by 1")
        assert counted == [("2024-01-31", 7043), ("2024-02-29", 7149)]
        assert streamflow.value(f"select count(*) from {table}") == 7149

    folder = copy_month(SHIPPED, "001", tmp_path, as_month="002")
    set_value(folder / "subscriptions.csv", 3, "contract_type", "Weekly")
    set_value(folder / "usage_agg_30d.csv", 120, "watch_hours_30d", "-4.5")
    edit(folder / "labels.csv", lambda rows: rows.append(["nobody", "True"]))
    refused = streamflow("ingest", "002", "--data-dir", tmp_path)
    assert refused.code == 1
    expected = lines(shown[4])
    assert lines(refused.err)[-len(expected) :] == expected


def test_a_project_is_made_as_the_page_shows(streamflow: Streamflow, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "own-project.md").read_text(encoding="utf-8")
    accounts, invoices, _, said = (text for _, text in BLOCK.findall(page))
    month = tmp_path / "exports" / "2024-01"
    month.mkdir(parents=True)
    (month / "accounts.csv").write_text(accounts)
    (month / "invoices.csv").write_text(invoices)
    program = [sys.executable, "-c", PROGRAM, "new", "shop", "--from", str(month)]
    environment = {**os.environ, **streamflow.environment, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert lines(result.stdout) == lines(said)
