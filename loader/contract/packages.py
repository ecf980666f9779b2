"""Install the dbt packages: from dbt's hub if it answers quickly, else the stand-in that streamflow ships."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import yaml

from loader.errors import SurroundingsFailed
from loader.project import PACKAGE, SHIPPED, project

STAND_IN = SHIPPED / "dbt_project" / "stand_in" / "dbt_expectations"
OWN_LINK = Path(".streamflow/package")
"""The link by which a project's packages.yml finds streamflow's own package, wherever the program is installed."""
PATIENCE = 2.0


def install() -> str:
    """Install what packages.yml names, or the stand-in; returns one line that says which."""
    link_own_package()
    present = audit_package()
    if present is not None and "stand-in" not in present:
        return f"dbt packages: {present} is there"
    if _hub_answers() and _dbt_deps():
        return f"dbt packages: {audit_package()}, from dbt's package hub"
    shutil.copytree(STAND_IN, project().packages / STAND_IN.name, dirs_exist_ok=True)
    return f"dbt packages: dbt's package hub does not answer, so the audits run on the stand-in ({audit_package()})"


def require_packages() -> None:
    """Require that the packages are installed, and link streamflow's own.

    Raises:
        SurroundingsFailed: they are not installed, or the project's folder cannot be written to.
    """
    if audit_package() is None:
        raise SurroundingsFailed("the dbt packages are not installed: run `streamflow setup`.")
    link_own_package()


def link_own_package() -> None:
    """Link the running program's dbt package into the project: an upgrade may have moved it.

    Raises:
        SurroundingsFailed: the project's folder cannot be written to.
    """
    links = [project().packages / PACKAGE.name]
    if PACKAGE.parent != project().dbt:
        links.append(project().dbt / OWN_LINK)
    try:
        for link in links:
            if link.resolve() != PACKAGE.resolve():
                link.parent.mkdir(parents=True, exist_ok=True)
                if link.is_dir() and not link.is_symlink():
                    shutil.rmtree(link)
                made = link.with_name(f".{link.name}.{os.getpid()}")
                made.symlink_to(PACKAGE)
                made.replace(link)  # atomic, as another command may be reading it
    except OSError as error:
        raise SurroundingsFailed(f"streamflow's dbt package cannot be put into the project: {error}.") from None


def _hub_answers() -> bool:
    answered = threading.Event()
    threading.Thread(target=_ask_hub, args=[answered], daemon=True).start()  # a DNS lookup has no timeout
    return answered.wait(PATIENCE)


def _ask_hub(answered: threading.Event) -> None:
    import urllib.request

    hub = os.environ.get("DBT_PACKAGE_HUB_URL", "https://hub.getdbt.com/")
    try:
        url = f"{hub.rstrip('/')}/api/v1/metaplane/dbt_expectations.json"
        with urllib.request.urlopen(url, timeout=PATIENCE):  # noqa: S310
            answered.set()
    except (OSError, ValueError):
        return


def _dbt_deps() -> bool:
    shutil.rmtree(project().packages / STAND_IN.name, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("dbt")), "deps", "--project-dir", str(project().dbt)]
    result = subprocess.run([*command, "--profiles-dir", str(project().profiles)], capture_output=True, check=False)
    return result.returncode == 0 and audit_package() is not None


def audit_package() -> str | None:
    """Name and version of the installed dbt_expectations; None if there is none.

    The real package claims version 0.6.0 at every tag from 0.10.0 on, so its version comes from package-lock.yml.
    """
    file = project().packages / "dbt_expectations" / "dbt_project.yml"
    if not file.is_file():
        return None
    version = str(yaml.safe_load(file.read_text(encoding="utf-8"))["version"])
    lock = project().dbt / "package-lock.yml"
    if "stand-in" not in version and lock.is_file():
        locked = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("packages") or []
        mine: dict[str, Any] = next((package for package in locked if package.get("name") == "dbt_expectations"), {})
        version = str(mine.get("version") or mine.get("revision") or version)
    return f"dbt_expectations {version}"
