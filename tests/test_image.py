"""Carries out the Dockerfile's steps in an empty folder, and runs the program from the result.

No Docker engine is needed: this machine's Python in a venv is the base image, and absolute paths are below the folder.
So the rights of the image's user are not tested, only the modes of the files.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from docker.utils import exclude_paths

from tests.conftest import REPOSITORY, Streamflow

# These change the machine itself, so programs of the same names that do nothing replace them.
SYSTEM = ("useradd", "install", "apt-get", "chown")
INSIDE = re.compile(r"(?<![\w./-])(?=/(?:app|tmp|var)\b)")  # before an absolute path of the image
HANDED_ON = re.compile(r"HOME|LANG|PIP_\w+|SSL_\w+|\w+_proxy", re.IGNORECASE)  # what pip may need to reach a registry
CLOSED = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
IMPORT_ALL = """
import importlib, pkgutil, loader
for module in pkgutil.walk_packages(loader.__path__, "loader."):
    print(importlib.import_module(module.name).__name__)
"""


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, without comments, continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def sent(folder: Path = REPOSITORY) -> list[str]:
    """The files of a folder that go to the builder: .dockerignore leaves out the others."""
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    return sorted(path for path in exclude_paths(str(folder), rules) if (folder / path).is_file())


class Image:
    """A folder in which the Dockerfile's steps were carried out."""

    def __init__(self, root: Path, extras: str = "") -> None:
        self.root, self.folder, self.start = root, root, {"ENTRYPOINT": [""], "CMD": [""]}
        subprocess.run([sys.executable, "-m", "venv", root / "usr/local"], check=True)
        for folder in ("tmp", "var/lib/streamflow", "system"):
            (root / folder).mkdir(parents=True)
        for program in SYSTEM:
            (root / "system" / program).write_text("#!/bin/sh\n", encoding="utf-8")
            (root / "system" / program).chmod(0o755)
        self.environment = {"PATH": f"{root}/system:{root}/usr/local/bin:/usr/bin:/bin"}
        self.arguments = {name: value for name, value in os.environ.items() if HANDED_ON.fullmatch(name)}
        for name, rest in instructions():
            self._step(name, INSIDE.sub(str(root), rest), extras)

    def _step(self, name: str, rest: str, extras: str) -> None:
        match name:
            case "WORKDIR":
                self.folder = Path(rest)
                self.folder.mkdir(parents=True)
            case "ARG":
                argument, _, default = rest.partition("=")
                self.arguments[argument] = extras or shlex.split(default)[0]
            case "ENV":
                self.environment |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self._copy(source, target)
            case "RUN":
                done = self.run(["sh", "-c", rest], **self.arguments)
                assert done.returncode == 0, f"RUN {rest}\n{done.stdout}{done.stderr}"
            case "ENTRYPOINT" | "CMD":
                self.start[name] = json.loads(rest)
            case _:
                assert name in {"FROM", "USER"}, f"a step that is not known here: {name}"

    def _copy(self, source: str, target: str) -> None:
        copied = [path for path in sent() if path == source or path.startswith(f"{source}/")]
        assert copied, f"COPY {source}: nothing of that name is sent to the builder"
        for path in copied:
            below = path.removeprefix(source) or ("/" + Path(path).name if target.endswith("/") else "")
            file = Path(f"{self.folder / target}{below}")
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / path, file)
            file.chmod(0o600)  # as in a checkout that only its owner can read

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the image's last WORKDIR."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, check=False
        )

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ENTRYPOINT with CMD, or with arguments in CMD's place. Every proxy is a closed port."""
        command = [*self.start["ENTRYPOINT"], *(arguments or self.start["CMD"])]
        home = {"HOME": str(self.root / "var/lib/streamflow"), "COLUMNS": "200"}
        return self.run(command, **(home | CLOSED | environment))

    def files(self) -> dict[str, tuple[int, int, int]]:
        """Path -> mode, size and time of change, for everything in the program's folder."""
        found = {str(path.relative_to(self.folder)): path.stat() for path in self.folder.rglob("*")}
        return {path: (info.st_mode, info.st_size, info.st_mtime_ns) for path, info in found.items()}


@pytest.fixture
def registry(tmp_path: Path) -> None:
    """Skips a test if pip reaches no registry."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--retries", "0"]
    if subprocess.run([*command, "--dest", tmp_path, "setuptools"], capture_output=True, check=False).returncode:
        pytest.skip("pip reaches no package registry")


@pytest.mark.long  # it takes a minute, and the workflow builds the image with Docker
@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("extras", ["", "[prefect]"])
def test_the_image_builds_and_ingests(extras: str, streamflow: Streamflow, tmp_path: Path) -> None:
    image = Image(tmp_path / "image", extras)
    shutil.copytree(REPOSITORY / "seeds_data", image.folder / "seeds_data", dirs_exist_ok=True)  # compose mounts it
    built = image.files()
    needed = {path: 0o005 if stat.S_ISDIR(mode) else 0o004 for path, (mode, _, _) in built.items()}
    assert [path for path in built if built[path][0] & needed[path] != needed[path]] == [], "files the user cannot read"

    modules = image.run(["python", "-I", "-B", "-c", IMPORT_ALL])
    paths = [path.relative_to(REPOSITORY).with_suffix("") for path in REPOSITORY.glob("loader/**/*.py")]
    expected = {".".join(path.parts).removesuffix(".__init__") for path in paths} - {"loader"}
    assert set(modules.stdout.split()) == expected, modules.stderr

    assert "ingest" in image().stdout
    checked = image("models", "--check")
    assert checked.returncode == 0, checked
    server = {name: value for name, value in streamflow.environment.items() if name.startswith("POSTGRES_")}
    ingested = image("ingest", "000", "--json", **server)
    assert ingested.returncode == 0, ingested
    assert json.loads(ingested.stdout)["state"] == "published"
    assert streamflow.value("select count(*) from users") == 7043
    if extras:
        flow = image.run(["python", "orchestration/prefect_flow.py", "--help"])
        assert flow.returncode == 0, flow
    assert image.files() == built, "a container's file system is read-only"
    shutil.rmtree(image.root)  # hundreds of megabytes, useful only after a failure


def test_the_program_runs_as_the_user_that_was_made_who_is_not_root() -> None:
    [user] = [rest for name, rest in instructions() if name == "USER"]
    [made] = [rest for name, rest in instructions() if name == "RUN" and "useradd" in rest]
    assert user == "10001:10001"
    assert "useradd --no-log-init --uid 10001 " in made


def test_the_layer_of_dependencies_lasts_until_they_change() -> None:
    steps = [f"{name} {rest}" for name, rest in instructions()]
    install = next(number for number, step in enumerate(steps) if "pip install" in step)
    copied = [step for step in steps[:install] if step.startswith("COPY")]
    assert copied == ["COPY pyproject.toml setup.py constraints.txt ./", "COPY loader/__init__.py loader/"]
    assert "-c constraints.txt" in steps[install]


def test_nothing_is_sent_to_the_builder_but_what_the_image_copies(tmp_path: Path) -> None:
    copied = [source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]]
    top = [{path.split("/")[0] for path in paths} for paths in (sent(), copied)]
    assert top[0] - {"Dockerfile", ".dockerignore"} == top[1]
    private = [".env", "seeds_data/users.csv", "profiles/.user.yml", "loader/cli/__pycache__/main.pyc"]
    built = ["dbt_project/target/manifest.json", "dbt_project/logs/dbt.log", "dbt_project/dbt_packages/a/macros/a.sql"]
    for path in [*private, *built, "loader/cli/main.py"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert sent(tmp_path) == ["loader/cli/main.py"]
