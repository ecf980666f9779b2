"""docker-compose.yml, Dockerfile, .env.example and the workflow: what can be said of them without a Docker engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices, SecretStr

from loader.settings import Settings

REPOSITORY = Path(__file__).resolve().parent.parent
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
ENV_EXAMPLE = REPOSITORY / ".env.example"
SERVICES = ["postgres", "streamflow", "docs", "prefect-server", "prefect", "citus", "citus-worker-1", "citus-worker-2"]
NODES = ["citus", "citus-worker-1", "citus-worker-2"]
CLIENTS = ["streamflow", "docs", "prefect"]
OF_THE_DATABASE = ["postgres", *CLIENTS, *NODES]
PROFILES = {
    "streamflow": ["tools"],
    "prefect-server": ["prefect"],
    "prefect": ["prefect"],
    **{name: ["citus"] for name in NODES},
}
CREDENTIALS = {"POSTGRES_USER": "user", "POSTGRES_PASSWORD": "password", "POSTGRES_DB": "database"}
LOOPBACK = "127.0.0.1:"
VARIABLE = re.compile(r"(?<!\$)\$(?:\{(\w+)(?::-([^}]*))?[^}]*\}|(\w+))")  # ${NAME}, ${NAME:-default} and $NAME


def _yaml(path: str) -> dict[str, Any]:
    document = yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def _service(name: str) -> dict[str, Any]:
    service = _yaml("docker-compose.yml")["services"][name]
    assert isinstance(service, dict)
    return service


def _strings(value: Any) -> list[str]:
    """Every string in a YAML document, keys left out."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _compose_variables() -> dict[str, set[str | None]]:
    """Name -> the defaults given for it, for every variable that docker-compose.yml takes from outside."""
    found: dict[str, set[str | None]] = {}
    for text in _strings(_yaml("docker-compose.yml")):
        for braced, default, bare in VARIABLE.findall(text):
            found.setdefault(braced or bare, set()).add(default or None)
    return found


def _env_example() -> dict[str, str]:
    """Name -> default, of the lines of .env.example that set something once their # is taken away."""
    lines = ENV_EXAMPLE.read_text(encoding="utf-8").splitlines()
    return {match[1]: match[2] for line in lines if (match := re.fullmatch(r"(?:# )?([A-Z][A-Z0-9_]*)=(.*)", line))}


def _dockerfile() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name.upper(), " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]


def _names(field: str) -> list[str]:
    """The environment variables that a setting is read from."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias if isinstance(alias, str) else field.upper()]


# docker-compose.yml


def test_it_has_these_services_and_up_starts_those_that_are_in_no_profile() -> None:
    services = _yaml("docker-compose.yml")["services"]
    assert list(services) == SERVICES
    assert {name: services[name]["profiles"] for name in SERVICES if "profiles" in services[name]} == PROFILES


def test_postgres_is_healthy_only_when_it_takes_connections_over_tcp() -> None:
    check = _service("postgres")["healthcheck"]
    assert "pg_isready" in check["test"][-1]
    assert "--host 127.0.0.1" in check["test"][-1]
    assert check["retries"] >= 1
    assert check["interval"]


@pytest.mark.parametrize("name", CLIENTS)
def test_what_needs_the_database_waits_until_it_is_healthy(name: str) -> None:
    assert _service(name)["depends_on"]["postgres"]["condition"] == "service_healthy"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("postgres", "/var/lib/postgresql/data"),
        ("streamflow", "/var/lib/streamflow"),
        ("prefect", "/var/lib/streamflow"),
        ("prefect-server", "/var/lib/streamflow"),
        *((name, "/var/lib/postgresql/data") for name in NODES),
    ],
)
def test_data_is_in_a_named_volume(name: str, target: str) -> None:
    sources = [v.split(":")[0] for v in _service(name)["volumes"] if isinstance(v, str) and v.split(":")[1] == target]
    assert len(sources) == 1
    assert sources[0] in _yaml("docker-compose.yml")["volumes"]


def test_the_command_keeps_its_files_in_the_volume() -> None:
    home = dict(part.split("=", 1) for name, rest in _dockerfile() if name == "ENV" for part in rest.split())
    assert home["STREAMFLOW_HOME"] == "/var/lib/streamflow"
    assert home["DBT_TARGET_PATH"].startswith("/var/lib/streamflow/")
    assert home["DBT_LOG_PATH"].startswith("/var/lib/streamflow/")
    assert "STREAMFLOW_HOME" not in _service("streamflow")["environment"]


@pytest.mark.parametrize("service", OF_THE_DATABASE)
@pytest.mark.parametrize("credential", CREDENTIALS)
def test_credentials_come_from_variables(service: str, credential: str) -> None:
    default = Settings.model_fields[CREDENTIALS[credential]].default
    plain = default.get_secret_value() if isinstance(default, SecretStr) else default
    assert _service(service)["environment"][credential] == f"${{{credential}:-{plain}}}"


def test_no_password_is_written_anywhere_else() -> None:
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    assert set(re.findall(r"(?i)password\w*\s*[:=]\s*(.+)", text)) == {"${POSTGRES_PASSWORD:-streamflow}"}
    assert not re.search(r"(?i)postgres(ql)?://", text)
    assert not re.search(r"(?i)trust", text)


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_published_beyond_loopback(name: str) -> None:
    service = _service(name)
    assert [port for port in service.get("ports", []) if not str(port).startswith(LOOPBACK)] == []
    assert "network_mode" not in service
    assert bool(service.get("ports")) is (name not in {"streamflow", "prefect", "citus-worker-1", "citus-worker-2"})


@pytest.mark.parametrize("name", ["streamflow", "prefect"])
def test_what_ingests_reaches_the_database_and_nothing_beyond(name: str) -> None:
    assert _service(name)["networks"] == ["inside"]
    assert "inside" in _service("postgres")["networks"]
    assert _yaml("docker-compose.yml")["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_containers_can_gain_nothing_and_write_nowhere_else(name: str) -> None:
    service = _service(name)
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]  # noqa: S108


@pytest.mark.parametrize("name", ["streamflow", "prefect"])
def test_the_months_are_mounted_read_only(name: str) -> None:
    mounts = [v for v in _service(name)["volumes"] if isinstance(v, dict)]
    assert [mount["target"] for mount in mounts] == ["/app/seeds_data"]
    assert mounts[0]["source"] == "${STREAMFLOW_DATA_DIR:-./seeds_data}"
    assert mounts[0]["read_only"] is True


@pytest.mark.parametrize("name", CLIENTS)
def test_the_clients_find_the_database_and_a_profile_that_exists(name: str) -> None:
    environment = _service(name)["environment"]
    assert environment["POSTGRES_HOST"] == "postgres"
    assert environment["POSTGRES_PORT"] == "5432"
    targets = _yaml("profiles/profiles.yml")["streamflow"]["outputs"]
    assert environment["STREAMFLOW_TARGET"] == "compose"
    assert "compose" in targets
    assert "'postgres'" in targets["compose"]["host"]


def test_the_docs_are_made_and_then_served_by_the_same_program() -> None:
    service = _service("docs")
    script = service["command"][0]
    assert service["entrypoint"] == ["sh", "-c"]
    assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0
    assert script.index("streamflow dbt docs generate") < script.index("streamflow dbt docs serve --host 0.0.0.0")
    assert service["ports"] == ["127.0.0.1:${DOCS_PORT:-8080}:8080"]
    assert "--port 8080" in script


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
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(["sh", "-c", _service("docs")["command"][0]], env=environment, check=False)
    assert (result.returncode, log.read_text(encoding="utf-8").split()) == (expected, steps)


def test_prefect_serves_the_flow_from_an_image_with_the_extra() -> None:
    service, server = _service("prefect"), _service("prefect-server")
    for built in (service, server):
        assert built["build"] == {"context": ".", "args": {"EXTRAS": "[prefect]"}}
        assert "user" not in built, "the image's own, who is not root"
    assert service["depends_on"]["prefect-server"]["condition"] == "service_healthy"
    assert service["environment"]["PREFECT_API_URL"] == "http://prefect-server:4200/api"
    flow = REPOSITORY / service["entrypoint"][1]
    assert flow.is_file()
    assert flow.parent.name in [rest.split()[0] for name, rest in _dockerfile() if name == "COPY"]
    assert service["command"] == ["serve", "--cron", "${STREAMFLOW_CRON:-0 6 2 * *}"]


def test_the_prefect_server_writes_below_its_volume_and_tells_nobody() -> None:
    server = _service("prefect-server")
    assert server["environment"]["PREFECT_HOME"] == "/var/lib/streamflow"
    assert server["environment"]["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert server["volumes"] != _service("prefect")["volumes"], "a volume of its own"
    assert server["ports"] == ["127.0.0.1:${PREFECT_PORT:-4200}:4200"]
    assert "/api/health" in server["healthcheck"]["test"][-1]


def test_the_coordinator_registers_healthy_workers_when_it_is_made() -> None:
    coordinator = _service("citus")
    workers = [name for name in NODES if name != "citus"]
    assert {name: coordinator["depends_on"][name]["condition"] for name in workers} == dict.fromkeys(
        workers, "service_healthy"
    )
    [(source, target)] = [mount.split(":")[:2] for mount in coordinator["volumes"] if mount.endswith(":ro")]
    assert target.startswith("/docker-entrypoint-initdb.d/")
    assert re.findall(r"citus_add_node\('([^']+)'", (REPOSITORY / source).read_text()) == workers
    assert f"= {len(workers)}" in coordinator["healthcheck"]["test"][-1]
    assert len({_service(name)["image"] for name in NODES}) == 1
    assert all(_service(name)["user"] == "postgres" for name in NODES)


def test_docker_compose_itself_accepts_the_file() -> None:
    config = _docker_compose_config({"POSTGRES_PASSWORD": "another", "POSTGRES_PUBLISHED_PORT": "6543"})
    services = config["services"]
    assert {services[name]["environment"]["POSTGRES_PASSWORD"] for name in OF_THE_DATABASE} == {"another"}
    assert {services[name]["environment"]["POSTGRES_USER"] for name in OF_THE_DATABASE} == {"streamflow"}
    ports = [port for name in SERVICES for port in services[name].get("ports", [])]
    assert [(port["host_ip"], port["published"]) for port in ports] == [
        ("127.0.0.1", "6543"), ("127.0.0.1", "8080"), ("127.0.0.1", "4200"), ("127.0.0.1", "5433"),
    ]  # fmt: skip
    months = [mount for mount in services["streamflow"]["volumes"] if mount["type"] == "bind"]
    assert [(Path(mount["source"]), mount["read_only"]) for mount in months] == [(REPOSITORY / "seeds_data", True)]


def _docker_compose_config(changed: dict[str, str]) -> dict[str, Any]:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("the docker compose client is not installed")
    known = {*_compose_variables(), "COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"}
    environment = {name: value for name, value in os.environ.items() if name not in known} | changed
    command = [docker, "compose", "--env-file", os.devnull, "--file", str(COMPOSE_FILE), "--profile", "*"]
    result = subprocess.run(
        [*command, "config", "--format", "json"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    config = json.loads(result.stdout)
    assert isinstance(config, dict)
    return config


# Dockerfile


def test_the_image_runs_the_program_as_a_fixed_user_who_is_not_root() -> None:
    instructions = _dockerfile()
    users = [rest for name, rest in instructions if name == "USER"]
    assert len(users) == 1
    user, group = (int(number) for number in users[0].split(":"))
    assert user > 0
    assert group > 0
    assert any(name == "RUN" and f"useradd --no-log-init --uid {user} " in rest for name, rest in instructions)
    assert [name for name, _ in instructions][-3:] == ["USER", "ENTRYPOINT", "CMD"]
    assert ("ENTRYPOINT", '["streamflow"]') in instructions
    assert all("user" not in _service(name) for name in CLIENTS)


def test_the_dependencies_are_a_layer_of_their_own() -> None:
    instructions = _dockerfile()
    assert instructions[0] == ("FROM", "python:3.12-slim")
    install = next(i for i, (_, rest) in enumerate(instructions) if "pip install" in rest)
    assert '-c constraints.txt -e ".${EXTRAS}"' in instructions[install][1]
    assert ("ARG", 'EXTRAS=""') in instructions[:install], "nothing more unless a service asks for it"
    assert [rest for name, rest in instructions[:install] if name == "COPY"] == ["pyproject.toml constraints.txt ./"]
    copied = [i for i, (name, rest) in enumerate(instructions) if name == "COPY" and i > install and rest]
    setup = next(i for i, (_, rest) in enumerate(instructions) if "streamflow setup" in rest)
    assert copied
    assert max(copied) < setup, "the dbt packages are installed while the image is built, from what was copied"


def test_only_what_the_image_copies_is_sent_to_the_builder() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    sent = [rule[1:] for rule in rules if rule.startswith("!")]
    copied = [path for name, rest in _dockerfile() if name == "COPY" for path in rest.split()[:-1]]
    assert rules[0] == "*"
    assert sorted(sent) == sorted(copied)
    assert all((REPOSITORY / path).exists() for path in copied)


# .env.example


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_explained_with_its_default(field: str) -> None:
    example, default = _env_example(), Settings.model_fields[field].default
    name = _names(field)[0]
    assert name in example, f"{name} is not in .env.example"
    if isinstance(default, Path):
        assert (REPOSITORY / example[name]).resolve() == default
    elif isinstance(default, SecretStr):
        assert example[name] == default.get_secret_value()
    elif isinstance(default, bool):
        assert example[name] == str(default).lower()
    else:
        assert example[name] == ("" if default is None else str(default))


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


def _job(name: str) -> dict[str, Any]:
    job = _yaml(".github/workflows/ci.yml")["jobs"][name]
    assert isinstance(job, dict)
    return job


def _commands(job: str) -> list[str]:
    return [step["run"] for step in _job(job)["steps"] if "run" in step]


def test_the_workflow_is_bounded_and_may_only_read() -> None:
    workflow = _yaml(".github/workflows/ci.yml")
    assert list(workflow["jobs"]) == ["lint", "test", "server", "orchestrators", "image", "citus"]
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert "${{ github.ref }}" in workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 60
        assert "permissions" not in job
        assert {step["uses"] for step in job["steps"] if "uses" in step} <= {
            "actions/checkout@v4",
            "actions/setup-python@v5",
        }


def test_the_workflow_runs_lint_and_tests_on_the_oldest_and_newest_python() -> None:
    assert _commands("lint") == ["make lint", "make docs-site"]
    assert _commands("test") == ["make test"]
    versions = _job("test")["strategy"]["matrix"]["python"]
    supported = re.search(r'requires-python = ">=([\d.]+),<3\.(\d+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert supported is not None
    assert versions == [supported[1], f"3.{int(supported[2]) - 1}"]


def test_the_workflow_ingests_and_builds_by_hand_on_every_server_version() -> None:
    job = _job("server")
    assert job["strategy"]["matrix"]["postgres"] == ["16", "17", "18"]
    service = job["services"]["postgres"]
    assert service["image"] == "postgres:${{ matrix.postgres }}"
    assert "--health-cmd" in service["options"]
    assert "pg_isready" in service["options"]
    assert {name: job["env"][name] for name in CREDENTIALS} == service["env"]
    assert job["env"]["POSTGRES_HOST"] == "localhost"
    assert job["env"]["STREAMFLOW_TARGET"] == "ci"
    assert "ci" in _yaml("profiles/profiles.yml")["streamflow"]["outputs"]

    commands = _commands("server")
    expected = [
        "pip install -c constraints.txt -e .",
        "streamflow setup",
        "streamflow ingest 000",
        "streamflow ingest 001",
        "dbt build",
        "streamflow ingest 001 --json",
        "streamflow status --json",
    ]
    assert [command.split(" | ")[0] for command in commands] == expected
    by_hand = next(step for step in job["steps"] if step.get("run") == "dbt build")
    assert by_hand["working-directory"] == "dbt_project"
    assert "env" not in by_hand
    again = commands[expected.index("streamflow ingest 001 --json")]
    assert '.state == "unchanged"' in again
    assert _yaml(".github/workflows/ci.yml")["defaults"]["run"]["shell"] == "bash", "a plain shell has no pipefail"


def test_the_workflow_tests_each_orchestrator_where_it_is_installed() -> None:
    matrix = _job("orchestrators")["strategy"]["matrix"]["include"]
    assert [entry["name"] for entry in matrix] == ["prefect", "dagster", "airflow"]
    assert all(entry["name"] in entry["install"] for entry in matrix)
    commands = _commands("orchestrators")
    assert commands[0] == "pip install ${{ matrix.install }}"
    assert commands[-2:] == ["python -c 'import ${{ matrix.name }}'", "pytest tests/test_orchestrators.py"]


def test_the_workflow_builds_the_image_and_ingests_both_months_with_it() -> None:
    commands = _commands("image")
    build = commands.index("docker compose --profile tools --profile prefect build")
    first = commands.index("docker compose run --rm streamflow ingest 000")
    second = commands.index("docker compose run --rm streamflow ingest 001")
    up = commands.index("docker compose --profile prefect up --detach --wait")
    assert build < first < second < up
    assert (
        commands.index(
            "docker compose exec prefect prefect deployment run streamflow-month/monthly --param month=001 --watch"
        )
        > up
    )
