"""docker-compose.yml, .env.example and the workflow: checks that no linter makes.

`make lint` validates their schemas, tests/test_image.py builds the image, and the workflow starts the containers.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import AliasChoices, SecretStr

from loader.cli.main import app
from loader.settings import Settings
from tests.conftest import REPOSITORY
from tests.test_image import instructions

NODES = ["citus", "citus-worker-1", "citus-worker-2"]
CLIENTS = ["streamflow", "docs", "prefect"]
PROFILES = {
    "postgres": None,
    "streamflow": ["tools"],
    "docs": None,
    "prefect-server": ["prefect"],
    "prefect": ["prefect"],
    **{name: ["citus"] for name in NODES},
}
NEEDS = {
    "streamflow": {"postgres"},
    "docs": {"postgres"},
    "prefect": {"postgres", "prefect-server"},
    "citus": {"citus-worker-1", "citus-worker-2"},
}
KEEPS = {
    "streamflow": "streamflow:/var/lib/streamflow",
    "prefect": "streamflow:/var/lib/streamflow",
    "prefect-server": "prefect:/var/lib/streamflow",
    **{name: f"{name}:/var/lib/postgresql/data" for name in ["postgres", *NODES]},
}
CREDENTIALS = {"POSTGRES_USER": "user", "POSTGRES_PASSWORD": "password", "POSTGRES_DB": "database"}
VARIABLE = re.compile(r"(?<!\$)\$(?:\{(\w+)(?::-([^}]*))?[^}]*\}|(\w+))")  # ${NAME}, ${NAME:-default} and $NAME


def _yaml(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))


COMPOSE = _yaml("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
JOBS: dict[str, dict[str, Any]] = _yaml(".github/workflows/ci.yml")["jobs"]
ENV_EXAMPLE = REPOSITORY / ".env.example"


def _strings(value: Any) -> list[str]:
    """Every string in a YAML document, keys left out."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [text for item in items for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _compose_variables() -> dict[str, set[str | None]]:
    """Name -> its defaults, for every variable that docker-compose.yml reads from the environment."""
    found: dict[str, set[str | None]] = {}
    for text in _strings(COMPOSE):
        for braced, default, bare in VARIABLE.findall(text):
            found.setdefault(braced or bare, set()).add(default or None)
    return found


def _env_example() -> dict[str, str]:
    """Name -> default of each variable in .env.example, commented out or not."""
    lines = ENV_EXAMPLE.read_text(encoding="utf-8").splitlines()
    return {match[1]: match[2] for line in lines if (match := re.fullmatch(r"(?:# )?([A-Z][A-Z0-9_]*)=(.*)", line))}


def _names(field: str) -> list[str]:
    """The environment variables that a setting is read from."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias if isinstance(alias, str) else field.upper()]


def _plain(default: Any) -> Any:
    return default.get_secret_value() if isinstance(default, SecretStr) else default


# docker-compose.yml


def test_it_has_these_services_and_up_starts_those_that_are_in_no_profile() -> None:
    assert {name: service.get("profiles") for name, service in SERVICES.items()} == PROFILES


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_gain_nothing_write_nowhere_else_and_be_reached_from_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]  # noqa: S108
    assert not service.keys() & {"cap_add", "privileged", "network_mode"}
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []
    assert bool(service.get("ports")) is (name in {"postgres", "docs", "prefect-server", "citus"})


@pytest.mark.parametrize("name", NEEDS)
def test_what_a_service_needs_is_healthy_first(name: str) -> None:
    waits = SERVICES[name]["depends_on"]
    assert waits == {needed: {"condition": "service_healthy"} for needed in NEEDS[name]}
    assert [needed for needed in waits if "healthcheck" not in SERVICES[needed]] == []


@pytest.mark.parametrize("name", ["postgres", *NODES])
def test_a_database_is_healthy_only_when_it_takes_connections_over_tcp(name: str) -> None:
    assert "--host 127.0.0.1" in SERVICES[name]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", KEEPS)
def test_data_is_in_a_named_volume(name: str) -> None:
    assert KEEPS[name] in SERVICES[name]["volumes"]
    assert KEEPS[name].split(":")[0] in COMPOSE["volumes"]


def test_the_command_keeps_its_files_in_the_volume() -> None:
    environment = " ".join(rest for name, rest in instructions() if name == "ENV")
    for variable in ("STREAMFLOW_HOME", "DBT_TARGET_PATH", "DBT_LOG_PATH"):
        assert f" {variable}=/var/lib/streamflow" in environment
        assert variable not in SERVICES["streamflow"]["environment"]


@pytest.mark.parametrize("name", ["postgres", *CLIENTS, *NODES])
def test_credentials_come_from_variables(name: str) -> None:
    defaults = {variable: _default(field) for variable, field in CREDENTIALS.items()}
    expected = {variable: f"${{{variable}:-{default}}}" for variable, default in defaults.items()}
    assert {variable: SERVICES[name]["environment"][variable] for variable in CREDENTIALS} == expected


def test_no_password_is_written_anywhere_else() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"(?i)password\w*\s*[:=]\s*(.+)", text)) == {"${POSTGRES_PASSWORD:-streamflow}"}
    assert not re.search(r"(?i)postgres(ql)?://|trust", text)


@pytest.mark.parametrize("name", CLIENTS)
def test_the_clients_find_the_database(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert (environment["POSTGRES_HOST"], environment["POSTGRES_PORT"]) == ("postgres", "5432")
    assert "user" not in SERVICES[name], "the image's own, who is not root"


@pytest.mark.parametrize("name", ["streamflow", "prefect"])
def test_what_ingests_reads_the_months_and_reaches_the_database_and_nothing_beyond(name: str) -> None:
    [months] = [mount for mount in SERVICES[name]["volumes"] if isinstance(mount, dict)]
    assert (months["source"], months["read_only"]) == ("${STREAMFLOW_DATA_DIR:-./seeds_data}", True)
    assert months["target"] == "/app/seeds_data"
    assert SERVICES[name]["networks"] == ["inside"]
    assert "inside" in SERVICES["postgres"]["networks"]
    assert COMPOSE["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize(
    ("made", "expected", "steps"),
    [
        pytest.param("there", 0, ["generate", "serve"], id="tables are there"),
        pytest.param("init", 0, ["generate", "init", "generate", "serve"], id="new database"),
        pytest.param("never", 3, ["generate", "init"], id="no database"),
    ],
)
def test_the_docs_make_tables_only_where_there_are_none(
    made: str, expected: int, steps: list[str], tmp_path: Path
) -> None:
    log, tables, program = tmp_path / "log", tmp_path / "tables", tmp_path / "streamflow"
    program.write_text(
        f'#!/bin/sh\nstep="$3"; [ "$1" = init ] && step=init; echo "$step" >> "{log}"\n'
        f'case "$step" in init) [ {made} = init ] && : > "{tables}" || exit 3;;'
        f' generate) [ -e "{tables}" ] || exit 2;; esac\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    if made == "there":
        tables.touch()
    path, target = f"{tmp_path}{os.pathsep}{os.environ['PATH']}", tmp_path / "target"
    environment = {**os.environ, "PATH": path, "DBT_TARGET_PATH": str(target)}
    docs = SERVICES["docs"]
    command = [word.replace("$$", "$") for word in docs["command"]]  # as compose does
    result = subprocess.run([*docs["entrypoint"], *command], env=environment, check=False)
    assert (result.returncode, log.read_text(encoding="utf-8").split()) == (expected, steps)
    assert str((target / "reports").readlink()) == "/var/lib/streamflow/reports", "where ingests write their pages"
    assert "streamflow:/var/lib/streamflow:ro" in docs["volumes"]


def test_prefect_serves_the_flow_from_an_image_with_the_extra_and_its_server_tells_nobody() -> None:
    flow, server = SERVICES["prefect"], SERVICES["prefect-server"]
    assert flow["build"] == server["build"] == {"context": ".", "args": {"EXTRAS": "[parquet,prefect]"}}
    assert (REPOSITORY / flow["entrypoint"][1]).is_file()
    assert flow["environment"]["PREFECT_API_URL"] == "http://prefect-server:4200/api"
    assert server["environment"]["PREFECT_HOME"] == "/var/lib/streamflow"
    assert server["environment"]["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_the_coordinator_registers_healthy_workers_when_it_is_made() -> None:
    [(source, target)] = [mount.split(":")[:2] for mount in SERVICES["citus"]["volumes"] if mount.endswith(":ro")]
    assert target.startswith("/docker-entrypoint-initdb.d/")
    assert re.findall(r"citus_add_node\('([^']+)'", (REPOSITORY / source).read_text()) == NODES[1:]
    assert f"= {len(NODES[1:])}" in SERVICES["citus"]["healthcheck"]["test"][-1]
    assert len({(SERVICES[name]["image"], SERVICES[name]["user"]) for name in NODES}) == 1


# .env.example


def _default(field: str) -> Any:
    return _plain(Settings.model_fields[field].get_default(call_default_factory=True))


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_explained_with_its_default(field: str) -> None:
    written, default = _env_example()[_names(field)[0]], _default(field)
    if isinstance(default, Path):
        assert (REPOSITORY / written).resolve() == default
    elif isinstance(default, bool):
        assert written == str(default).lower()
    else:
        assert written == ("" if default is None else str(default))


@pytest.mark.parametrize("name", _compose_variables())
def test_every_variable_of_the_compose_file_is_explained_with_its_default(name: str) -> None:
    assert _compose_variables()[name] == {_env_example()[name]}


def test_each_line_has_a_comment_of_its_own_and_nothing_that_nobody_reads() -> None:
    lines = ENV_EXAMPLE.read_text(encoding="utf-8").splitlines()
    known = {name for field in Settings.model_fields for name in _names(field)} | set(_compose_variables())
    assert set(_env_example()) == known
    for before, line in zip(["", *lines], lines, strict=False):
        if re.fullmatch(r"(# )?[A-Z][A-Z0-9_]*=.*", line):
            assert re.match(r"# [A-Z][a-z]+ ", before), f"no comment above {line}"


def test_a_copy_of_it_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _env_example():
        monkeypatch.delenv(name, raising=False)
    copy = tmp_path / ".env"
    shutil.copy(ENV_EXAMPLE, copy)
    assert Settings(_env_file=copy) == Settings(_env_file=None)  # type: ignore[call-arg]
    copy.write_text(re.sub(r"(?m)^# (POSTGRES_PORT=).*", r"\g<1>6543", copy.read_text(encoding="utf-8")))
    assert Settings(_env_file=copy).port == 6543  # type: ignore[call-arg]


# .github/workflows/ci.yml


def test_the_workflow_tests_the_oldest_and_newest_python_that_is_supported() -> None:
    supported = re.search(r'requires-python = ">=([\d.]+),<3\.(\d+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert supported is not None
    assert JOBS["test"]["strategy"]["matrix"]["python"] == [supported[1], f"3.{int(supported[2]) - 1}"]


@pytest.mark.parametrize("job", JOBS)
def test_the_workflow_runs_what_exists(job: str) -> None:
    commands = "\n".join(step["run"] for step in JOBS[job]["steps"] if "run" in step)
    targets = re.findall(r"(?m)^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"))
    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= set(targets)
    program = typer.main.get_command(app)
    assert set(re.findall(r"(?m)(?:^| )streamflow ([a-z]+)", commands)) <= set(getattr(program, "commands", {}))
    profiles = {name for names in PROFILES.values() for name in names or ()}
    assert set(re.findall(r"--profile (\S+)", commands)) <= profiles
    assert set(re.findall(r"docker compose (?:run|exec)(?: --\w+(?: \w+=\w+)?)* (\S+)", commands)) <= set(SERVICES)
    assert [path for path in re.findall(r"\S+\.py\b", commands) if not (REPOSITORY / path).is_file()] == []


def test_the_workflow_signs_on_to_its_server() -> None:
    job = JOBS["server"]
    assert job["services"]["postgres"]["env"].items() <= job["env"].items()
