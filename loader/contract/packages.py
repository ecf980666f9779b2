"""Setting up the dbt packages: dbt's hub where it answers quickly, else the stand-in that the repository carries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from loader.settings import DBT_PROJECT, PROFILES

STAND_IN = DBT_PROJECT / "stand_in" / "dbt_expectations"
INSTALLED = DBT_PROJECT / "dbt_packages"
PATIENCE = 2.0


def install() -> str:
    """Install what packages.yml names, or the stand-in; returns one line that says which."""
    present = audit_package()
    if present is not None and "stand-in" not in present:
        return f"dbt packages: {present} is there"
    if _hub_answers() and _dbt_deps():
        return f"dbt packages: {audit_package()}, from dbt's package hub"
    shutil.copytree(STAND_IN, INSTALLED / STAND_IN.name, dirs_exist_ok=True)
    return f"dbt packages: dbt's package hub does not answer, so the audits run on the stand-in ({audit_package()})"


def _hub_answers() -> bool:
    answered = threading.Event()
    threading.Thread(target=_ask_hub, args=[answered], daemon=True).start()  # a name look-up knows no time limit
    return answered.wait(PATIENCE)


def _ask_hub(answered: threading.Event) -> None:
    hub = os.environ.get("DBT_PACKAGE_HUB_URL", "https://hub.getdbt.com/")
    try:
        url = f"{hub.rstrip('/')}/api/v1/metaplane/dbt_expectations.json"
        with urllib.request.urlopen(url, timeout=PATIENCE):  # noqa: S310
            answered.set()
    except (OSError, ValueError):
        return


def _dbt_deps() -> bool:
    shutil.rmtree(INSTALLED / STAND_IN.name, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("dbt")), "deps", "--project-dir", str(DBT_PROJECT)]
    result = subprocess.run([*command, "--profiles-dir", str(PROFILES)], capture_output=True, check=False)
    return result.returncode == 0 and audit_package() is not None


def audit_package() -> str | None:
    """Name and version of the dbt_expectations that is installed; None when there is none.

    The real package says 0.6.0 of itself at every tag from 0.10.0 on: what `dbt deps` has locked is its version.
    """
    project = DBT_PROJECT / "dbt_packages" / "dbt_expectations" / "dbt_project.yml"
    if not project.is_file():
        return None
    version = str(yaml.safe_load(project.read_text(encoding="utf-8"))["version"])
    lock = DBT_PROJECT / "package-lock.yml"
    if "stand-in" not in version and lock.is_file():
        locked = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("packages") or []
        mine: dict[str, Any] = next((package for package in locked if package.get("name") == "dbt_expectations"), {})
        version = str(mine.get("version") or mine.get("revision") or version)
    return f"dbt_expectations {version}"
