"""dbt, in this process: imported while files are copied, run with this project, profile and database."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from loader.database import Database
from loader.errors import SurroundingsFailed
from loader.settings import DBT_PROJECT, PROFILES, Settings

NodeDone = Callable[[str], None]
"""Told the kind of each node that is done: test or model."""


@dataclass(frozen=True)
class DbtRun:
    """How a dbt invocation ended. `tests` has dbt's node of each test that ran, by unique id."""

    success: bool
    invocation_id: str | None
    errors: list[str]
    tests: dict[str, Any]


def import_in_background() -> threading.Thread:
    """Begin to import dbt, which takes seconds, while other work goes on."""
    thread = threading.Thread(target=_import, name="import dbt", daemon=True)
    thread.start()
    return thread


def _import() -> Any:
    from dbt.adapters.postgres import Plugin  # noqa: F401  (dbt imports it later in any case)
    from dbt.cli.main import dbtRunner

    return dbtRunner


def invoke(
    settings: Settings, database: Database, arguments: Sequence[str], done: NodeDone, lock_holder: int
) -> DbtRun:
    """Run dbt with the given arguments, silently, telling `done` of each node as it ends.

    Args:
        lock_holder: the server process of the session that holds the run's lock; dbt stops when it does not any more.

    Raises:
        SurroundingsFailed: the packages that the project needs are not installed.
    """
    if audit_package() is None:
        raise SurroundingsFailed("the dbt packages are not installed: run `make setup` (or `streamflow setup`).")
    runner = _import()
    os.environ.update(environment(settings, database) | {"STREAMFLOW_LOCK_HOLDER": str(lock_holder)})

    invocation_ids: set[str] = set()
    operation_errors: list[str] = []  # dbt tells them in an event and nowhere else

    def tell(event: Any) -> None:
        invocation_ids.add(event.info.invocation_id)
        if event.info.name in {"RunningOperationCaughtError", "RunningOperationUncaughtError"}:
            operation_errors.append(event.data.exc.strip())
        if event.info.name == "NodeFinished":
            done(event.data.node_info.resource_type)

    result = runner(callbacks=[tell]).invoke([*arguments, "--log-level", "none", "--log-level-file", "info"])
    if isinstance(result.exception, KeyboardInterrupt):
        raise KeyboardInterrupt
    return _outcome(result, next(iter(invocation_ids), None), operation_errors)


def environment(settings: Settings, database: Database) -> dict[str, str]:
    """What any dbt command needs to know of this project: where it is, where its log goes, which database."""
    return {
        **database.environment,
        "DBT_PROJECT_DIR": str(DBT_PROJECT),
        "DBT_PROFILES_DIR": str(PROFILES),
        "DBT_LOG_PATH": str(settings.home / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def _outcome(result: Any, invocation_id: str | None, operation_errors: list[str]) -> DbtRun:
    results = list(getattr(result.result, "results", None) or [])
    nodes = [node for node in results if hasattr(node, "node")]  # an operation's result has none
    errors = [f"{node.node.unique_id}: {(node.message or '').strip()}" for node in nodes if node.status == "error"]
    if result.exception:
        errors.append(str(result.exception))
    return DbtRun(
        success=bool(result.success),
        invocation_id=invocation_id,
        errors=[*errors, *operation_errors],
        tests={node.node.unique_id: node.node for node in nodes if node.node.resource_type == "test"},
    )


def audit_package() -> str | None:
    """Name and version of the dbt_expectations that is installed; None when there is none."""
    project = DBT_PROJECT / "dbt_packages" / "dbt_expectations" / "dbt_project.yml"
    if not project.is_file():
        return None
    return f"dbt_expectations {yaml.safe_load(project.read_text(encoding='utf-8'))['version']}"
