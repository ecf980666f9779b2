"""Makes docs/pictures: a terminal with an ingest and one with a refusal, the change report, the lineage."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.conftest import REPOSITORY, generate
from tests.files import copy_month, set_value
from tests.test_docs import links

PICTURES = REPOSITORY / "docs" / "pictures"
MONTHS = 8
COLUMNS = 124
PROGRAM = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'streamflow'; from loader.cli.program import program; program()",
]


class Scene:
    """Made-up months in a folder, an empty database, and the command line on both."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / ".streamflow"
        generate("--out", folder / "exports", "--months", MONTHS)
        unset = {name: "" for name in os.environ if name.startswith(("POSTGRES_", "STREAMFLOW_"))}
        self.environment = os.environ | unset | {
            "STREAMFLOW_HOME": str(self.home), "STREAMFLOW_DATA_DIR": str(folder / "exports"),
            "DBT_TARGET_PATH": str(folder / "target"), "DBT_LOG_PATH": str(folder / "logs"),
            "PYTHONPATH": str(REPOSITORY), "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS),
        }  # fmt: skip

    def streamflow(self, *words: str, code: int = 0) -> str:
        """Run a command; returns its output without the names of this machine's folders."""
        command = [*PROGRAM, *words]
        done = subprocess.run(
            command, env=self.environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        said = done.stdout.decode().replace(f"{self.folder}/", "").replace(f"{REPOSITORY}/", "")
        if done.returncode != code:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{said}")
        return said


def terminal(command: str, said: str, picture: str) -> None:
    """Draw a terminal with a command and its output. The picture loads no font from the network."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(said.rstrip("\n")))
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="streamflow"), flags=re.DOTALL)
    clip = r'(-clip-terminal">\s*<rect [^>]*height=")([\d.]+)'
    drawn = re.sub(clip, lambda found: f"{found[1]}{float(found[2]) + 4:.1f}", drawn)  # room for the last underscores
    (PICTURES / picture).write_text(drawn.replace("Fira Code", "ui-monospace, Menlo, Consolas"), encoding="utf-8")


def screen(address: str, size: str, picture: str, scale: int = 1) -> None:
    """Draw a page in Chromium, with `scale` times as many pixels per side."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
            f"--user-data-dir={profile}", f"--window-size={size}",
            f"--force-device-scale-factor={scale}", "--virtual-time-budget=20000",
            f"--screenshot={PICTURES / picture}",
        ]  # fmt: skip
        subprocess.run([program, *flags, address], check=True, capture_output=True, timeout=120)


def spoil(scene: Scene) -> str:
    """Copy month 001 with some wrong values; returns the folder of months that has the copy."""
    folder = copy_month(scene.folder / "exports", "001", scene.folder / "incoming")
    set_value(folder / "users.csv", 12, "user_gender", "F")
    set_value(folder / "subscriptions.csv", 40, "monthly_fee", "79,85")
    set_value(folder / "usage_agg_30d.csv", 7, "watch_hours_30d", "-3")
    set_value(folder / "labels.csv", 90, "user_id", "9999-XXXXX")
    return str(scene.folder / "incoming")


def main() -> None:
    """Draw all four pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        try:
            scene.streamflow("dbt", "parse", "--quiet")  # needed once, so it must not count in a month's time
            terminal("make ingest MONTH=000", scene.streamflow("ingest", "000"), "ingest.svg")
            refused = scene.streamflow("ingest", "001", "--data-dir", spoil(scene), code=1)
            terminal("make ingest MONTH=001 DATA_DIR=incoming", refused, "refusal.svg")
            scene.streamflow("ingest", f"001..{MONTHS - 1:03}")
            [page] = scene.home.glob(f"reports/month_{MONTHS - 1:03}_*.html")
            screen(page.as_uri(), "1280,1000", "report.png")
            scene.streamflow("dbt", "docs", "generate", "--static", "--quiet")
            page = scene.folder / "target" / "static_index.html"
            graph = f"{page.as_uri()}#!/overview?g_v=1&{links(page)[1]}"
            screen(graph, "1500,900", "lineage.png", scale=2)  # its labels are small
        finally:
            scene.streamflow("db", "stop")


if __name__ == "__main__":
    main()
