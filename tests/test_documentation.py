"""The documentation as text: no link is broken, generated pages are up to date, what they name exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from loader.contract.tables import Column, CsvForm, DataType, Table
from tests import cli_reference, reference
from tests.bench import report
from tests.conftest import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("seeds_data/*.md")])
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_the_readme_names_every_page_and_is_short() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert {f"docs/{page.name}" for page in REPOSITORY.glob("docs/*.md")} <= set(LINK.findall(readme))
    assert len(readme.split()) <= 900
    assert sum(len(page.read_text(encoding="utf-8").split()) for page in REPOSITORY.glob("docs/*.md")) <= 10_000


def test_every_page_that_the_program_names_is_there() -> None:
    names = ("loader", "dbt_project/models", "dbt_project/streamflow", "orchestration", ".github")
    files = [
        path for name in names for path in (REPOSITORY / name).rglob("*") if path.suffix in {".py", ".sql", ".yml"}
    ]
    files += [REPOSITORY / name for name in ("Makefile", "docker-compose.yml", "CONTRIBUTING.md", ".env.example")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"docs/[a-z_/-]+\.(?:md|svg|png|json|py)", text))
    assert len(named) > 5
    assert [page for page in sorted(named) if not (REPOSITORY / page).is_file()] == []


def test_the_site_is_built_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: it is in the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        assert not re.search(r'<(script|link|img)[^>]+(src|href)="(https?:)?//', page.read_text(encoding="utf-8")), page
    assert (tmp_path / "search" / "search_index.js").is_file(), "search works on a page that is opened from the disk"


def test_the_command_reference_is_what_help_says() -> None:
    assert cli_reference.PAGE.read_text(encoding="utf-8") == cli_reference.page(), "run: make docs-reference"


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_what_it_is_made_from(name: str) -> None:
    assert (REPOSITORY / "docs" / name).read_text(encoding="utf-8") == reference.PAGES[name](), (
        "run: make docs-reference"
    )


def test_the_figures_are_those_that_were_measured() -> None:
    measured = json.loads((REPOSITORY / "docs" / "benchmark.json").read_text(encoding="utf-8"))
    assert report.PAGE.read_text(encoding="utf-8") == report.page(measured), "run: python -m tests.bench.report"


def rows(page: str, heading: str) -> list[list[str]]:
    """The words in backticks in the first cell of each table row below a heading."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section
    return [re.findall(r"`([^`]+)`", row) for row in re.findall(r"^\| (.*?) \|", section[1], re.MULTILINE)]


def test_every_key_of_the_contract_is_explained() -> None:
    explained = {name for row in rows("data-contract.md", "Keys of a table") for name in row}
    found_by_the_program = {"name", "description", "key", "customer", "form", "columns"}
    assert explained - {"relationships"} >= {"primary_key", *(Table.model_fields.keys() - found_by_the_program)}
    assert explained >= CsvForm.model_fields.keys()
    of_columns = {
        name.removeprefix("config.meta.") for row in rows("data-contract.md", "Keys of a column") for name in row
    }
    assert of_columns >= Column.model_fields.keys() - {"description"}
    assert of_columns >= set(get_args(DataType))


def test_every_message_that_is_explained_is_one() -> None:
    folders = (REPOSITORY / "loader", REPOSITORY / "dbt_project" / "streamflow")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".sql"}]
    said = "\n".join(path.read_text(encoding="utf-8") for path in files)
    messages = [message for row in rows("troubleshooting.md", "Messages") for message in row]
    assert len(messages) > 5
    assert [message for message in messages if message not in said] == []
