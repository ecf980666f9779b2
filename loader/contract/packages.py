"""Install the dbt packages: with `dbt deps` or, without dbt's hub, the stand-in that streamflow ships."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import yaml

from loader.errors import SurroundingsFailed, WrongUsage
from loader.project import PACKAGE, SHIPPED, project

STAND_IN = SHIPPED / "dbt_project" / "stand_in" / "dbt_expectations"
OWN_LINK = Path(".streamflow/package")
"""The link by which a project's packages.yml finds streamflow's own package, wherever the program is installed."""
PATIENCE = 2.0


def install() -> str:
    """Install what packages.yml names, without dbt's hub on the stand-in; returns one line that says which.

    Raises:
        SurroundingsFailed: packages.yml names more than can be installed here.
    """
    link_own_package()
    is_real = "stand-in" not in (audit_package() or "stand-in")
    said, folder = f"{audit_package()} is there", project().packages / STAND_IN.name
    if is_real and not are_lacking() and _is_locked():
        return f"dbt packages: {said}"
    needs_hub = any("package" in one for one in _named())
    failure = "dbt's package hub does not answer" if needs_hub and not _hub_answers() else _dbt_deps()
    if failure is None:
        return f"dbt packages: {audit_package()}, installed by `dbt deps`"
    if not is_real:
        if not folder.is_symlink():
            shutil.copytree(STAND_IN, folder, dirs_exist_ok=True)
        said = f"{failure}, so the audits run on the stand-in ({audit_package()})"
    _link_local_packages()
    if are_lacking():
        near = STAND_IN.relative_to(project().dbt) if STAND_IN.is_relative_to(project().dbt) else STAND_IN
        raise SurroundingsFailed(
            f"packages.yml names packages that are not installed: {failure}. Where the hub cannot be reached, name"
            f" `- local: {near}` in place of dbt_expectations, and other packages by `git` or `local`. Then try again."
        )
    return f"dbt packages: {said}"


def require_packages() -> None:
    """Require that the packages are installed, and link streamflow's own.

    Raises:
        SurroundingsFailed: they are not installed, or the project's folder cannot be written to.
    """
    link_own_package()
    if are_lacking():
        raise SurroundingsFailed("the dbt packages are not installed: run `streamflow setup`.")


def link_own_package() -> None:
    """Link the running program's dbt package into the project: an upgrade may have moved it.

    Raises:
        SurroundingsFailed: the project's folder cannot be written to.
    """
    links = [project().packages / PACKAGE.name]
    if PACKAGE.parent != project().dbt:
        links.append(project().dbt / OWN_LINK)
    for link in links:
        _link(link, PACKAGE)


def _link_local_packages() -> None:
    """Link the other packages that packages.yml names by a folder, as `dbt deps` does."""
    for named in _named():
        folder = project().dbt / named.get("local", "")
        if "local" in named and (folder / "dbt_project.yml").is_file():
            name = yaml.safe_load((folder / "dbt_project.yml").read_text(encoding="utf-8"))["name"]
            _link(project().packages / name, folder)


def _link(link: Path, folder: Path) -> None:
    try:
        if link.resolve() != folder.resolve():
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_dir() and not link.is_symlink():
                shutil.rmtree(link)
            made = link.with_name(f".{link.name}.{os.getpid()}")
            made.symlink_to(folder)
            made.replace(link)  # atomic, as another command may be reading it
    except OSError as error:
        raise SurroundingsFailed(f"the dbt package {link.name} cannot be put into the project: {error}.") from None


def _files() -> list[Path]:
    """The files that name packages."""
    return [path for name in ("packages.yml", "dependencies.yml") if (path := project().dbt / name).is_file()]


def _named() -> list[dict[str, Any]]:
    """The packages that are named; WrongUsage if a file is not YAML."""
    named = list[dict[str, Any]]()
    for file in _files():
        try:
            named += (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("packages") or []
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise WrongUsage(f"{file} cannot be read: {error}") from None
    return named


def are_lacking() -> bool:
    """Whether dbt_expectations is missing, or there are fewer packages than packages.yml names, as dbt counts them."""
    return audit_package() is None or len(_named()) > sum(one.is_dir() for one in project().packages.glob("[!_.]*"))


def _is_locked() -> bool:
    """Whether `dbt deps` has looked at packages.yml since it was last written."""
    locked = project().dbt / "package-lock.yml"
    return locked.is_file() and all(file.stat().st_mtime <= locked.stat().st_mtime for file in _files())


def _hub_answers() -> bool:
    answers: list[bool] = []
    asking = threading.Thread(target=_ask_hub, args=[answers], daemon=True)  # a DNS lookup has no timeout
    asking.start()
    asking.join(PATIENCE)
    return bool(answers)


def _ask_hub(answers: list[bool]) -> None:
    import urllib.request

    hub = os.environ.get("DBT_PACKAGE_HUB_URL", "https://hub.getdbt.com/")
    try:
        url = f"{hub.rstrip('/')}/api/v1/metaplane/dbt_expectations.json"
        with urllib.request.urlopen(url, timeout=PATIENCE):  # noqa: S310
            answers.append(True)
    except (OSError, ValueError):
        return


def _dbt_deps() -> str | None:
    """Have dbt install all packages; return why it did not. It removes those that are there once it has found all."""
    command = [str(Path(sys.executable).with_name("dbt")), "deps", "--project-dir", str(project().dbt)]
    result = subprocess.run([*command, "--profiles-dir", str(project().profiles)], capture_output=True, check=False)
    is_done = result.returncode == 0 and audit_package() is not None
    return None if is_done else "`dbt deps` fails (`streamflow dbt deps` says why)"


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
