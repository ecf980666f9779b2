"""Runs dbt in this process with this project, profile and database; parses the project while files are copied."""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loader.contract.packages import require_packages
from loader.database import Database
from loader.errors import SurroundingsFailed
from loader.pipeline.fewer_events import without_debug_events
from loader.pipeline.kept_sessions import sessions_kept
from loader.pipeline.kept_templates import templates_kept
from loader.project import project
from loader.settings import Settings

REFERENCES = ["run-operation", "streamflow.require_references", "--no-write-json"]
"""What the gate checks besides the audits. The artifacts stay those of the audits."""
BUILD = ["build", "--select", "*", "--exclude-resource-type", "unit_test"]
"""All but unit tests, which are for developers; `--select *` overrides a default of the project's selectors.yml."""
FINISH = ["build", "--exclude-resource-type", "test", "unit_test", "--select", "complete_months+"]
"""Publishes a month whose history stands, without tests: a failed one on history or production would block it."""
SELECTABLE = re.compile(r"[\w.-]+")
"""Names that dbt's --select takes as they are, without its operators."""
NOT_PRODUCTION = ["--exclude", "+config.incremental_strategy:newest_wins"]
BELOW = ["build", "--indirect-selection", "empty", "--exclude-resource-type", "unit_test", *NOT_PRODUCTION]
"""Builds what reads production; also `published`, where a month that was cut off may have to be entered first."""
WHOLE = ["--no-fail-fast"]
"""With fail-fast, dbt kills its other sessions, which looks as if the server did, and skips what can be built."""
QUIET = ["--log-level", "none", "--log-level-file", "none"]
LOGGED = ["--log-level", "none", "--log-level-file", "info", "--no-use-colors-file"]
"""Logs to the file that error messages name, at level info, because logging each query takes time."""
LOG = Path("logs", "dbt.log")
LEADS_ASTRAY = (
    "RESOURCE_TYPES", "EXCLUDE_RESOURCE_TYPES", "EMPTY", "SAMPLE", "DEFER", "FAVOR_STATE", "WARN_ERROR",
    "WARN_ERROR_OPTIONS", "USE_FAST_TEST_EDGES",
)  # fmt: skip
"""Variables (after DBT_ or DBT_ENGINE_) that would make dbt leave out audits, tables or rows, read other tables, refuse
a month for a warning, or build before the audits end."""
BAD = {"error", "fail", "skipped", "runtime error", "partial success"}

PARSER = ThreadPoolExecutor(1, "dbt")
Told = Callable[[str], None]


@dataclass(frozen=True)
class Node:
    """A node of dbt that did not succeed: its name, its kind (like model or test), its status (one of BAD), and why."""

    name: str
    kind: str
    status: str
    message: str

    @classmethod
    def of(cls, result: Any) -> Node:
        """Build a node from dbt's result."""
        return cls(result.node.name, str(result.node.resource_type), str(result.status), (result.message or "").strip())

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.message or self.status}"


@dataclass(frozen=True)
class DbtRun:
    """How a dbt invocation ended. `names` are those of its nodes; `tests` and `sources` are dbt's own objects.

    `lost_a_session`: whether the server or the network ended one of dbt's sessions.
    """

    success: bool
    errors: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    bad: list[Node] = field(default_factory=list)
    tests: list[Any] = field(default_factory=list)
    sources: Mapping[str, Any] = field(default_factory=dict)
    lost_a_session: bool = False

    def after(self, before: DbtRun) -> DbtRun:
        """Both runs as one; this run did what `before` left undone, and may have skipped what `before` built."""
        built = before.names - {node.name for node in before.bad}
        bad = [node for node in self.bad if node.status != "skipped" or node.name not in built]
        bad += (node for node in before.bad if node.name not in self.names)
        errors = [*before.errors, *self.errors]
        return DbtRun(self.success and not bad, errors, self.names, bad, before.tests, before.sources)

    def failure(self, month: str, home: Path) -> SurroundingsFailed:
        """The exception that says why this run did not publish the month, and what to do next."""
        reasons = [*self.errors, *(str(node) for node in self.bad if node.status != "skipped")]
        lines = [f"dbt failed; its log is {home / LOG}", *(reasons or ["dbt ended without publishing the month"])]
        advice = f"Nothing is half published: fix that, then ingest month {month} again."
        return SurroundingsFailed("\n  ".join(lines) + f"\n{advice}")


class Dbt:
    """dbt with this project, for all runs of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._parsed: Future[Any] | None = None

    def prepare(self, database: Database) -> Future[Any]:
        """Import dbt and parse the project in the background, which takes seconds; the future has dbt's result.

        Raises:
            SurroundingsFailed: the packages that the project needs are not installed.
        """
        if self._parsed is None:
            require_packages()
            for name in LEADS_ASTRAY:
                os.environ.pop(f"DBT_{name}", None)
                os.environ.pop(f"DBT_ENGINE_{name}", None)
            set_environment(self.settings, database)
            self._parsed = PARSER.submit(parse)
        return self._parsed

    def run(self, arguments: Sequence[str], database: Database, begun: Told, done: Told) -> DbtRun:
        """Run dbt with the given arguments, silently.

        Args:
            begun: called with dbt's invocation id before dbt does anything.
            done: called with the kind of each node as it ends, like test or model.

        Raises:
            SurroundingsFailed: dbt cannot parse the project, the packages that it needs are not installed, or it would
                work on another database.
        """
        return _run(self._copied(database), arguments, begun, done)

    def audit(self, database: Database, begun: Told, done: Told) -> DbtRun:
        """Load the seeds that audits read, then run the audits and nothing else, silently.

        Returns the seed run if a seed fails. Arguments and errors are those of `run`.
        """
        from loader.refusals.audits import AUDIT, mark_audits, seeds_of_audits

        steps = [["test", "--select", f"tag:{AUDIT}"]]
        if seeds := seeds_of_audits(self.manifest(database)):
            steps.insert(0, ["seed", "--select", *seeds])
        for step in steps:
            result = _run(mark_audits(self._copied(database)), step, begun, done)
            if not result.success:
                break
        return result

    def build_again(self, failed: Collection[str] | None, database: Database, begun: Told, done: Told) -> DbtRun:
        """Build what failed below production, with the project's models upstream of it: the repair may be in one.

        Also builds all below production if `failed` is None, or names something that dbt cannot select, like a hook.
        Arguments and errors are those of `run`.
        """
        known = self.manifest(database).nodes.values()
        nodes = {one.name for one in known if one.resource_type != "operation" and SELECTABLE.fullmatch(one.name)}
        chosen = [f"+{name}" for name in sorted(nodes.intersection(failed or ()))]
        if not failed or len(chosen) < len(failed):
            chosen.append("gate+")
        return self.run([*BELOW, "--select", *chosen], database, begun, done)

    def manifest(self, database: Database) -> Any:
        """The manifest of the parsed project.

        Raises:
            SurroundingsFailed: as in `run`.
        """
        parsed = self.prepare(database).result()
        if parsed.exception:
            advice = "`streamflow dbt parse` may say more. Fix that, then try again."
            raise SurroundingsFailed(f"dbt cannot parse the project: {parsed.exception}\n{advice}")
        return parsed.result

    def _copied(self, database: Database) -> Any:
        """A copy of the manifest for a run, which modifies it. What dbt cannot copy is left out, or shared."""
        manifest = self.manifest(database)
        manifest.selectors, manifest.disabled = {}, {}  # nothing here needs them
        saved_queries, manifest.saved_queries = manifest.saved_queries, {}
        copied = manifest.deepcopy()
        copied.saved_queries = manifest.saved_queries = saved_queries
        return copied


@contextlib.contextmanager
def environment_kept() -> Iterator[None]:
    """Restore the environment afterwards: it is where dbt is told which project and database to use."""
    before = dict(os.environ)
    try:
        yield
    finally:
        PARSER.submit(int).result()  # waits for a running parse, which reads the environment
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def parse() -> Any:
    """Parse the project; dbt's result has the manifest.

    Raises:
        SurroundingsFailed: dbt would work on another database.
    """
    from dbt.adapters.factory import get_adapter_by_type
    from dbt.cli.main import dbtRunner

    parsed = dbtRunner().invoke(["parse", "--no-write-json", *QUIET])
    if not parsed.success:  # what dbt keeps of an earlier parse may be the cause
        parsed = dbtRunner().invoke(["parse", "--no-write-json", "--no-partial-parse", *QUIET])
    if parsed.success:
        _require_same_database(get_adapter_by_type("postgres").config)
    return parsed


def _require_same_database(profile: Any) -> None:
    meant = [os.environ[f"POSTGRES_{name}"] for name in ("HOST", "PORT", "DB")]
    used = [str(getattr(profile.credentials, name)) for name in ("host", "port", "database")]
    if used != meant:
        raise SurroundingsFailed(
            f"the target {profile.target_name} of dbt's profile is the database {used[2]} on {used[0]}, port {used[1]},"
            f" but POSTGRES_* name {meant[2]} on {meant[0]}, port {meant[1]}: let the target read POSTGRES_*, like the"
            " one that `streamflow new` writes, or choose another target (DBT_TARGET). Nothing was changed."
        )


def _run(manifest: Any, arguments: Sequence[str], begun: Told, done: Told) -> DbtRun:
    from dbt.cli.main import dbtRunner

    operation_errors: list[str] = []  # dbt reports these in an event only

    def tell(event: Any) -> None:
        if event.info.name == "MainReportVersion":  # its first event
            manifest.metadata.invocation_id = event.info.invocation_id  # in manifest.json, as in run_results.json
            begun(event.info.invocation_id)
        if event.info.name in {"RunningOperationCaughtError", "RunningOperationUncaughtError"}:
            operation_errors.append(event.data.exc.strip())
        if event.info.name == "NodeFinished":
            done(event.data.node_info.resource_type)

    with _interruptible(), sessions_kept() as lost, without_debug_events(), templates_kept():
        result = dbtRunner(manifest=manifest, callbacks=[tell]).invoke([*arguments, *WHOLE, *LOGGED])
    if isinstance(result.exception, KeyboardInterrupt):
        raise KeyboardInterrupt
    results = [one for one in getattr(result.result, "results", None) or [] if hasattr(one, "node")]
    return DbtRun(
        success=bool(result.success),
        errors=[*([str(result.exception)] if result.exception else []), *operation_errors],
        names={one.node.name for one in results},
        bad=[Node.of(one) for one in results if one.status in BAD and one.node.resource_type != "exposure"],
        tests=[one.node for one in results if one.node.resource_type == "test"],
        sources=manifest.sources,
        lost_a_session=bool(lost),
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Make dbt's sessions wait for the server in Python, where an interrupt acts at once, and not in psycopg2's C code.

    Does nothing outside the main thread, because other threads get no signals.
    """
    from psycopg2.extensions import POLL_OK, POLL_READ, set_wait_callback  # type: ignore[import-untyped]

    def wait(connection: Any) -> None:
        try:
            while (state := connection.poll()) != POLL_OK:
                ready = select.poll()  # select.select takes no file with a number over 1,023
                ready.register(connection, select.POLLIN if state == POLL_READ else select.POLLOUT)
                ready.poll()
        except KeyboardInterrupt:
            connection.cancel()  # dbt cancels statements of nodes, but not those of hooks
            raise

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    set_wait_callback(wait)
    try:
        yield
    finally:
        set_wait_callback(None)


def set_environment(settings: Settings, database: Database) -> None:
    """Set the variables that tell dbt where the project is, where its log goes, and which database to use."""
    told = {
        "PROJECT_DIR": str(project().dbt),
        "PROFILES_DIR": str(project().profiles),
        "LOG_PATH": str((settings.home / LOG).parent),
        "SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    for name, value in told.items():
        os.environ.pop(f"DBT_ENGINE_{name}", None)  # dbt would prefer this one
        os.environ[f"DBT_{name}"] = value
    os.environ.update(database.environment)
