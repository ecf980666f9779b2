"""The dbt docs as one HTML file: in headless Chromium, the lineage graph leads from a source to production."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loader.database import POSITION
from tests.conftest import CITUS_URI, kept
from tests.servers import Server

SHOW_GRAPH = """
<script>
setInterval(function () {
  var box = Array.from(document.querySelectorAll('*')).find(function (e) { return e._cyreg && e._cyreg.cy; });
  if (!box || document.getElementById('edges')) { return; }
  var edges = box._cyreg.cy.edges().map(function (e) { return [e.source().id(), e.target().id()]; });
  if (!edges.length) { return; }
  var note = document.createElement('pre');
  note.id = 'edges';
  note.textContent = JSON.stringify(edges);
  document.body.appendChild(note);
}, 100);
</script>
"""
"""Writes the edges of the graph on the screen into the page, since the graph itself is pixels."""


@pytest.fixture
def chromium() -> str:
    """The path of the browser."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return program


@pytest.fixture(scope="module")
def page(server: Server, dbt_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static docs of an initialised database, beside the manifest and the catalog that they were made from."""
    folder = tmp_path_factory.mktemp("page")
    with kept(server, dbt_target, folder, "documented") as streamflow:
        streamflow.ok("init")
        assert streamflow.dbt("docs", "generate", "--static").success
    for name in ("static_index.html", "manifest.json", "catalog.json"):
        shutil.copy(dbt_target / name, folder)
    return folder / "static_index.html"


def dump(chromium: str, page: Path, fragment: str, profile: Path) -> str:
    """The DOM of the page after its scripts have run."""
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
        "--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom",
    ]  # fmt: skip
    command = [chromium, *flags, f"{page.as_uri()}#!/{fragment}"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return result.stdout


def reachable(edges: list[Any], start: str) -> set[str]:
    """All nodes that can be reached along the edges."""
    seen, frontier = {start}, {start}
    while frontier:
        frontier = {target for source, target in edges if source in frontier} - seen
        seen |= frontier
    return seen


def links(page: Path) -> list[str]:
    """The selections in the overview's links to the graph: the lineage of one table, then of all tables."""
    docs = json.loads((page.parent / "manifest.json").read_text())["docs"]
    overview = next(doc for name, doc in docs.items() if name.endswith("__overview__"))
    found: list[str] = re.findall(r"g_v=1&([^)]*)", overview["block_contents"])
    return found


def test_lineage_leads_from_a_source_to_production(chromium: str, page: Path, tmp_path: Path) -> None:
    instrumented = tmp_path / "index.html"
    instrumented.write_text(page.read_text().replace("</body>", SHOW_GRAPH + "</body>"))
    dom = dump(chromium, instrumented, f"overview?g_v=1&{links(page)[1]}", tmp_path / "profile")
    found = re.search(r'<pre id="edges">(.*?)</pre>', dom, re.DOTALL)
    assert found, "no graph was drawn"
    edges = json.loads(html.unescape(found.group(1)))
    assert {name.split(".")[0] for edge in edges for name in edge} == {"source", "model", "exposure"}, "no unit test"
    assert not [name for edge in edges for name in edge if name.startswith("source.streamflow.ops.")]
    for table in ("users", "labels"):
        below = reachable(edges, f"source.customers.staging.{table}")
        assert {"model.streamflow.gate", f"model.customers.{table}_snapshots", f"model.customers.{table}"} <= below
        assert "exposure.customers.churn_dashboard" in below
    assert "model.customers.subscriptions" in reachable(edges, "source.customers.staging.labels"), "through the gate"


def test_every_model_and_column_is_documented(page: Path) -> None:
    manifest = json.loads((page.parent / "manifest.json").read_text())
    documented = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    documented += list(manifest["sources"].values())
    assert len(documented) > 20
    for node in documented:
        assert node["description"], node["unique_id"]
        for column in node["columns"].values():
            assert column["description"], (node["unique_id"], column["name"])
    catalog = json.loads((page.parent / "catalog.json").read_text())
    for unique_id, node in (catalog["nodes"] | catalog["sources"]).items():
        of_history = re.sub(r"\.latest_(\w+)$", r".\1_snapshots", unique_id)  # history describes latest's columns
        declared = (manifest["nodes"] | manifest["sources"])[of_history]["columns"]
        of_staging = {"as_of", POSITION} if CITUS_URI else {"as_of"}
        added = of_staging if unique_id.startswith("source.customers.staging.") else set()
        assert set(node["columns"]) - added == set(declared), unique_id


def test_the_links_of_the_overview_lead_to_what_is_there(page: Path) -> None:
    manifest = json.loads((page.parent / "manifest.json").read_text())
    there = manifest["nodes"] | manifest["sources"] | manifest["exposures"]
    overview = next(doc for name, doc in manifest["docs"].items() if name.endswith("__overview__"))["block_contents"]
    linked = re.findall(r"#!/(?:model|source)/([\w.]+)", overview)
    assert len(linked) > 5
    assert set(linked) <= set(there)
    names = {unique_id.split(".", 2)[2] for unique_id in there}
    shown = links(page)[0].removeprefix("g_i=")
    assert {re.sub(r"^(source|exposure):", "", name) for name in shown.split("%20")} <= names


def test_the_page_asks_nothing_of_the_network(page: Path) -> None:
    metadata = json.loads((page.parent / "manifest.json").read_text())["metadata"]
    assert metadata["send_anonymous_usage_stats"] is False
    text = page.read_text()
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="https?:', text)
