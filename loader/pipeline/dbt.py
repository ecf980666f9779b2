"""dbt, in this process: made ready while files are copied, run with this project, profile and database."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Protocol

import yaml

from loader.contract.models import write_models
from loader.contract.tables import load_contract
from loader.database.connect import Connection, Database
from loader.database.engines import engine_of
from loader.errors import SurroundingsFailed
from loader.pipeline.failed_audits import Audit, audit_of
from loader.settings import DBT_PROJECT, PROFILES, Settings

SILENT = ["--no-write-json", "--log-level", "none", "--log-level-file", "none"]
"""dbt's own log formats each of some hundred debug events before it drops them; `_log` is told of the others."""

LEVELS = {"warn": logging.WARNING, "error": logging.ERROR}
ANSI = re.compile(r"\x1b\[[0-9;]*m")

NodeDone = Callable[[str], None]
"""Told the kind of each node that is done: test or model."""


@dataclass(frozen=True)
class DbtRun:
    """How a dbt invocation ended. `audits` has each test of the project, by unique id."""

    success: bool
    invocation_id: str | None
    errors: list[str]
    audits: dict[str, Audit]


class Place(Protocol):
    """Where dbt runs."""

    def parse(self, variables: dict[str, str]) -> None:
        """Begin to import dbt and to parse the project, with these variables in the environment, and return at once."""

    def run(self, arguments: Sequence[str], done: NodeDone, lock_holder: int, logs: Path) -> DbtRun:
        """Run dbt on the project as it was parsed."""


class Here:
    """dbt in this process, imported and parsed in a thread."""

    def __init__(self) -> None:
        self._parsed: Future[Any] = Future()

    def parse(self, variables: dict[str, str]) -> None:
        """As of `Place`."""
        os.environ.update(variables)
        threading.Thread(target=self._parse_into_future, name="dbt", daemon=True).start()

    def run(self, arguments: Sequence[str], done: NodeDone, lock_holder: int, logs: Path) -> DbtRun:
        """As of `Place`."""
        parsed = self._parsed.result()
        if parsed.exception:
            return DbtRun(False, None, [str(parsed.exception)], {})
        os.environ["STREAMFLOW_LOCK_HOLDER"] = str(lock_holder)
        manifest = parsed.result.deepcopy()  # a run leaves its marks in it
        with _log(logs) as log:
            return _run(manifest, [*arguments, *SILENT], done, log)

    def _parse_into_future(self) -> None:
        try:
            self._parsed.set_result(parse())
        except BaseException as error:
            self._parsed.set_exception(error)


class Engine:
    """dbt with this project: imported and parsed once, in the background, for all runs of this process."""

    def __init__(self, settings: Settings, place: Place | None = None) -> None:
        self._settings = settings
        self._place = place or Here()
        self._warming = False

    def warm_up(self, database: Database, connection: Connection) -> None:
        """Begin to import dbt and to parse the project, which takes seconds, while other work goes on.

        Raises:
            SurroundingsFailed: the models are out of step with the contract and cannot be written.
        """
        if not self._warming:
            write_models(load_contract())
            engine = {"STREAMFLOW_ENGINE": engine_of(connection)}  # which dbt would ask for again and again
            self._place.parse({**environment(self._settings, database), **engine})
            self._warming = True

    def invoke(self, database: Database, connection: Connection, arguments: Sequence[str], done: NodeDone) -> DbtRun:
        """Run dbt with the given arguments, silently, telling `done` of each node as it ends.

        Args:
            connection: the session that holds the run's lock; dbt stops when that lets it go.

        Raises:
            SurroundingsFailed: the packages that the project needs are not installed, or dbt's process has ended.
        """
        if audit_package() is None:
            raise SurroundingsFailed("the dbt packages are not installed: run `make setup` (or `streamflow setup`).")
        self.warm_up(database, connection)
        return self._place.run(arguments, done, connection.info.backend_pid, self._settings.home / "logs")


def parse() -> Any:
    """dbt's result of parsing the project; it has the manifest."""
    import_dbt()
    from dbt.cli.main import dbtRunner

    return dbtRunner().invoke(["parse", *SILENT])


def import_dbt() -> None:
    """Import what dbt needs in any case, some of which it would import later."""
    import dbt.adapters.postgres
    import dbt.cli.main  # noqa: F401


@contextlib.contextmanager
def _log(folder: Path) -> Iterator[logging.Logger]:
    """The log `dbt.log`, to which error messages point; old ones are kept for a while, as dbt does."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(folder / "dbt.log", maxBytes=10 << 20, backupCount=5, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log = logging.Logger("streamflow.dbt")
    log.addHandler(handler)
    try:
        yield log
    finally:
        handler.close()


def _run(manifest: Any, arguments: Sequence[str], done: NodeDone, log: logging.Logger) -> DbtRun:
    from dbt.cli.main import dbtRunner

    invocation_ids: set[str] = set()
    operation_errors: list[str] = []  # dbt tells them in an event and nowhere else

    def tell(event: Any) -> None:
        invocation_ids.add(event.info.invocation_id)
        if event.info.level not in {"debug", "test"}:
            log.log(LEVELS.get(event.info.level, logging.INFO), ANSI.sub("", event.info.msg))
        if event.info.name in {"RunningOperationCaughtError", "RunningOperationUncaughtError"}:
            operation_errors.append(event.data.exc.strip())
        if event.info.name == "NodeFinished":
            done(event.data.node_info.resource_type)

    result = dbtRunner(manifest=manifest, callbacks=[tell]).invoke([*arguments])
    if isinstance(result.exception, KeyboardInterrupt):
        raise KeyboardInterrupt
    results = list(getattr(result.result, "results", None) or [])
    nodes = [node for node in results if hasattr(node, "node")]  # an operation's result has none
    errors = [f"{node.node.unique_id}: {(node.message or '').strip()}" for node in nodes if node.status == "error"]
    if result.exception:
        errors.append(str(result.exception))
    audits = [audit_of(node, manifest.sources) for node in manifest.nodes.values() if node.resource_type == "test"]
    return DbtRun(
        success=bool(result.success),
        invocation_id=next(iter(invocation_ids), None),
        errors=[*errors, *operation_errors],
        audits={audit.audit_id: audit for audit in audits if audit is not None},
    )


def environment(settings: Settings, database: Database) -> dict[str, str]:
    """What any dbt command needs to know of this project: where it is, where its log goes, which database."""
    return {
        **database.environment,
        "DBT_PROJECT_DIR": str(DBT_PROJECT),
        "DBT_PROFILES_DIR": str(PROFILES),
        "DBT_LOG_PATH": str(settings.home / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


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
