"""Install the dbt packages: with `dbt deps` or, without dbt's hub, the stand-in that streamflow ships."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from loader.errors import SurroundingsFailed, WrongUsage
from loader.project import PACKAGE, SHIPPED, project

STAND_IN = SHIPPED / "dbt_project" / "stand_in" / "dbt_expectations"
OWN_LINK, STAND_IN_LINK = Path(".streamflow/package"), Path(".streamflow/stand_in")
"""Links by which a project's packages.yml finds streamflow's own package and the stand-in, wherever the program is."""
PATIENCE = 2.0


def install() -> str:
    """Install what packages.yml names and is not there, without dbt's hub on the stand-in; returns what there is.

    Raises:
        SurroundingsFailed: packages.yml names more than can be installed here.
        WrongUsage: packages.yml cannot be read.
    """
    link_own_package()
    folder, stand_in = project().packages / STAND_IN.name, _stand_in()
    is_named = any("local" in one and _name_of(one) == STAND_IN.name for one in _named())
    is_stopgap = "stand-in" in (audit_package() or "stand-in") and not is_named
    if not is_stopgap and not lacking():
        return f"dbt packages: {audit_package()} is there"
    needs_hub = any("package" in one for one in _named())
    failure = "dbt's package hub does not answer" if needs_hub and not _hub_answers() else _dbt_deps()
    if failure is None and not lacking():
        return f"dbt packages: {audit_package()}, installed by `dbt deps`"
    failure = failure or "`dbt deps` does not install it"
    if is_stopgap:
        if folder.is_symlink():
            folder.unlink()
        shutil.copytree(STAND_IN, folder, dirs_exist_ok=True)
    _link_local_packages()
    if missing := lacking():
        raise SurroundingsFailed(
            f"packages that packages.yml names are not installed: {', '.join(missing)}; {failure}. Where the hub cannot"
            f" be reached, name `- local: {stand_in}` in place of dbt_expectations, and others by `git` or `local`."
            " Then try again."
        )
    runs_on = (
        f", so the audits run on the stand-in ({audit_package()})" if is_stopgap else f"; {audit_package()} is there"
    )
    return f"dbt packages: {failure}{runs_on}"


def require_packages() -> None:
    """Require that the packages are installed, and link streamflow's own.

    Raises:
        SurroundingsFailed: they are not installed, or the project's folder cannot be written to.
        WrongUsage: packages.yml cannot be read.
    """
    link_own_package()
    if missing := lacking():
        raise SurroundingsFailed(f"dbt packages are not installed ({', '.join(missing)}): run `streamflow setup`.")


def link_own_package() -> None:
    """Link the running program's dbt package into the project: an upgrade may have moved it.

    Raises:
        SurroundingsFailed: the project's folder cannot be written to.
    """
    _link(project().packages / PACKAGE.name, PACKAGE)
    if PACKAGE.parent != project().dbt:
        _link(project().dbt / OWN_LINK, PACKAGE)


def _stand_in() -> Path:
    """The stand-in's folder as packages.yml can name it."""
    if STAND_IN.is_relative_to(project().dbt):
        return STAND_IN.relative_to(project().dbt)
    _link(project().dbt / STAND_IN_LINK, STAND_IN)
    return STAND_IN_LINK


def _link_local_packages() -> None:
    """Link the other packages that packages.yml names by a folder, as `dbt deps` does."""
    for named in _named():
        if "local" in named and (name := _name_of(named)):
            _link(project().packages / name, project().dbt / named["local"])


def _link(link: Path, folder: Path) -> None:
    try:
        if link.resolve() != folder.resolve():
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_dir() and not link.is_symlink():
                shutil.rmtree(link)
            made = link.with_name(f".{link.name}.{os.getpid()}")
            made.unlink(missing_ok=True)  # a process with the same id was killed before it renamed its link
            made.symlink_to(folder)
            made.replace(link)  # atomic, as another command may be reading it
    except OSError as error:
        raise SurroundingsFailed(f"the dbt package {link.name} cannot be put into the project: {error}.") from None


def _named() -> list[dict[str, Any]]:
    """The packages that the project names; WrongUsage if a file is not YAML, or of another form."""
    return [one for name in ("packages.yml", "dependencies.yml") for one in _packages_in(project().dbt / name)]


def _packages_in(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    try:
        return [dict(one) for one in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("packages") or []]
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise WrongUsage(f"{file} cannot be read as a list of dbt packages: {error}.") from None


def _name_of(named: dict[str, Any]) -> str | None:
    """The name of a package, which is that of its folder; None if only what is installed could tell it."""
    if "package" in named:
        return str(named["package"]).rpartition("/")[2]
    if "local" in named:
        with suppress(OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
            text = (project().dbt / str(named["local"]) / "dbt_project.yml").read_text(encoding="utf-8")
            return str(yaml.safe_load(text)["name"])
    place = [named.get("git"), named.get("subdirectory")]
    locked = (one for one in _locked() if "git" in named and [one.get("git"), one.get("subdirectory")] == place)
    return next((one.get("name") for one in locked), named.get("name"))


def _locked() -> list[dict[str, Any]]:
    """The packages that `dbt deps` has installed."""
    return _packages_in(project().dbt / "package-lock.yml")


def lacking() -> list[str]:
    """The packages that packages.yml names and that are not installed; dbt_expectations is always needed.

    One whose name is not known is missing, except if no lock tells names: then it is there if there are as many
    packages as are named, which is how dbt counts.
    """
    folders = {path.name for path in project().packages.glob("*") if (path / "dbt_project.yml").is_file()}
    named = _named()
    known = [(_name_of(one), next(map(str, one.values()), "")) for one in named]
    are_all = len(folders) >= len(named) and not _locked()
    missing = [said for name, said in known if (name not in folders if name else not are_all)]
    return missing if missing or STAND_IN.name in folders else [STAND_IN.name]


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
    """Have dbt install all packages; return why it could not, and bring back those that it has removed then."""
    packages = project().packages
    command = [str(Path(sys.executable).with_name("dbt")), "deps", "--project-dir", str(project().dbt)]
    with tempfile.TemporaryDirectory() as folder:
        before = shutil.copytree(packages, Path(folder, "packages"), symlinks=True)
        result = subprocess.run([*command, "--profiles-dir", str(project().profiles)], capture_output=True, check=False)
        if result.returncode == 0:
            return None
        shutil.rmtree(packages, ignore_errors=True)
        shutil.copytree(before, packages, symlinks=True, dirs_exist_ok=True)
    return "`dbt deps` fails (`streamflow dbt deps` says why)"


def audit_package() -> str | None:
    """Name and version of the installed dbt_expectations; None if there is none.

    The real package claims version 0.6.0 at every tag from 0.10.0 on, so its version comes from package-lock.yml.
    """
    file = project().packages / STAND_IN.name / "dbt_project.yml"
    if not file.is_file():
        return None
    version = str(yaml.safe_load(file.read_text(encoding="utf-8")).get("version", "without a version"))
    if "stand-in" not in version:
        mine: dict[str, Any] = next((one for one in _locked() if one.get("name") == STAND_IN.name), {})
        version = str(mine.get("version") or mine.get("revision") or version)
    return f"dbt_expectations {version}"
