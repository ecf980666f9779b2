"""One month from its files to its tables: find, land, audit, publish, and enter all of it in the ledger."""

from __future__ import annotations

import datetime as dt
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import psycopg
from psycopg import sql

from loader import __version__, audits, dbt, ledger
from loader.contracts import Table, load_contract
from loader.database import Connection, Database, open_database
from loader.deliveries import Delivery, Problem, sha256
from loader.errors import DataRefused, StreamflowError, SurroundingsFailed
from loader.landing import LandedFile, land
from loader.ledger import AuditResult, TableHistory
from loader.models import write_models
from loader.rejects import Rejects, write_rejects
from loader.settings import Settings

Command = Literal["ingest", "check"]
BUILD = ["build", "--exclude-resource-type", "unit_test", "--no-write-json"]
AUDIT = ["test", "--select", "source:staging", "--no-write-json"]


class Progress(Protocol):
    """What is told of a run while it goes on."""

    def step(self, name: str) -> None:
        """A step begins."""

    def files(self, sizes: dict[str, int]) -> None:
        """The files that will be copied and their bytes."""

    def advance(self, file: str, size: int) -> None:
        """So many more bytes of a file have gone in."""

    def nodes(self, total: int) -> None:
        """So many audits and models are to run."""

    def node(self, unique_id: str, status: str) -> None:
        """An audit or model is done."""


@dataclass(frozen=True)
class TableCounts:
    """What one delivery meant for one table, in rows."""

    table: str
    delivered: int
    inserted: int
    updated: int
    unchanged: int
    carried_forward: int

    @classmethod
    def of(cls, history: TableHistory) -> TableCounts:
        """From what dbt entered while it built history and production."""
        inserted, updated = history.rows_inserted or 0, history.rows_updated or 0
        return cls(
            history.table_name,
            history.rows_delivered,
            inserted,
            updated,
            history.rows_delivered - inserted - updated,
            history.rows_total - history.rows_delivered,
        )


@dataclass
class Outcome:
    """How an attempt ended: everything that the summary, `--json` and the ledger say of it."""

    command: Command
    month: str
    as_of: dt.date
    state: str
    uri: str
    counts: list[TableCounts] = field(default_factory=list)
    audits: list[AuditResult] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    message: str = ""
    rejects: Rejects | None = None

    def audits_that(self, status: str) -> list[AuditResult]:
        """The audits with that verdict."""
        return [audit for audit in self.audits if audit.status == status]


class Refused(DataRefused):
    """The month was refused; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class Clock:
    """Seconds per step."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - start, 3)

    def finish(self) -> dict[str, float]:
        """All steps and the total."""
        return {**self.seconds, "total": round(time.perf_counter() - self.started, 3)}


class Run:
    """One attempt at one month, with what it needs at hand."""

    def __init__(self, settings: Settings, command: Command, delivery: Delivery, progress: Progress) -> None:
        self.settings, self.command, self.delivery, self.progress = settings, command, delivery, progress
        self.clock = Clock()
        self.tables = load_contract()
        self.importing = None
        with self.clock.step("database"):
            self.database: Database = open_database(settings)
            self.connection: Connection = self.database.connect()
        self.load_id = 0

    def execute(self, *, force: bool = False) -> Outcome:
        """Do it.

        Raises:
            Refused: the data is not taken; nothing but the ledger has changed.
            SurroundingsFailed: the database or dbt failed; the month can be ingested again as it is.
        """
        ledger.prepare(self.connection)
        ledger.lock(self.connection)
        ledger.mark_interrupted(self.connection)
        self.load_id = ledger.begin(self.connection, self.command, self.delivery, self._versions())
        try:
            return self._steps(force)
        except StreamflowError as error:
            state = "refused" if isinstance(error, DataRefused) else "failed"
            self._close(state, error=str(error))
            raise
        except psycopg.Error as error:
            raise self._lost(error) from None
        except BaseException:
            self._close("interrupted", error="interrupted")
            raise

    def _steps(self, force: bool) -> Outcome:
        problems = self.delivery.find_problems(self.tables)
        if problems:
            raise self._refusal(problems)
        if self.command == "ingest":
            known = ledger.history_on(self.connection, self.delivery.as_of)
            if known:
                with self.clock.step("compare"):
                    finished = self._compare(known)
                if finished and not force:
                    return self._unchanged(known)
        dbt.import_in_background()
        write_models(self.tables)
        files = self._land()
        ledger.set_staged(self.connection, self.load_id, self.delivery, files)
        return self._publish() if self.command == "ingest" else self._check()

    # Comparing with what is published

    def _compare(self, known: dict[str, TableHistory]) -> bool:
        """Whether the month is published whole, from these very rows.

        Raises:
            Refused: history was built from other rows.
        """
        differing = [
            table
            for table in self.tables
            if table.name in known and known[table.name].sha256 != sha256(self.delivery.file(table))
        ]
        if differing:
            self._refuse_other_rows(differing)
        return all(table.name in known and known[table.name].merged_at for table in self.tables)

    def _refuse_other_rows(self, differing: list[Table]) -> None:
        ledger.clear_staged(self.connection)
        self._land(differing)
        counts = {table.name: self._rows_that_differ(table) for table in differing}
        if any(counts.values()):
            problems = [
                Problem(f"{name}.csv", f"{count:,} rows differ from what is published for {self.delivery.as_of}")
                for name, count in counts.items()
                if count
            ]
            raise self._refusal(
                problems, f"month {self.delivery.label} is published already, from other files; nothing was changed"
            )

    def _rows_that_differ(self, table: Table) -> int:
        columns = [sql.Identifier(name) for name in table.column_names]
        query = sql.SQL(
            "with delivered as (select {columns} from {staging}),"
            " published as (select {columns} from {history} where as_of = {as_of} and observed_as_of = {as_of})"
            " select count(*) from delivered full join published on delivered.{key} = published.{key}"
            " where delivered.* is distinct from published.*"
        ).format(
            columns=sql.SQL(", ").join(columns),
            staging=sql.Identifier("staging", table.name),
            history=sql.Identifier("public", f"{table.name}_snapshots"),
            as_of=sql.Literal(self.delivery.as_of),
            key=sql.Identifier(table.primary_key),
        )
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def _unchanged(self, known: dict[str, TableHistory]) -> Outcome:
        outcome = self._outcome("unchanged")
        outcome.counts = [TableCounts.of(known[table.name]) for table in self.tables]
        outcome.message = f"month {self.delivery.label} is published already, from these same rows: nothing to do"
        self._close("unchanged")
        return outcome

    # Landing

    def _land(self, only: Sequence[Table] | None = None) -> list[LandedFile]:
        tables = self.tables if only is None else only
        self.progress.step("landing")
        self.progress.files({self.delivery.file(t).name: self.delivery.file(t).stat().st_size for t in tables})
        ledger.clear_staged(self.connection)
        with self.clock.step("landing"):
            files, problems = land(self.database, self.delivery, tables, self.progress.advance)
        ledger.enter_files(self.connection, self.load_id, files)
        if problems:
            raise self._refusal(problems)
        return files

    # Auditing and publishing

    def _publish(self) -> Outcome:
        result = self._dbt(BUILD, "audits and tables")
        verdicts = ledger.audits_of(self.connection, self.load_id)
        self._refuse_failed_audits(result, verdicts)
        if not result.success or ledger.state_of(self.connection, self.load_id) != "published":
            raise SurroundingsFailed(self._dbt_error(result))
        known = ledger.history_on(self.connection, self.delivery.as_of)
        outcome = self._outcome("published", verdicts)
        outcome.counts = [TableCounts.of(known[table.name]) for table in self.tables]
        outcome.warnings = list(self._found(result, verdicts, "warn"))
        outcome.message = f"month {self.delivery.label} published, as of {self.delivery.as_of}"
        counts = [vars(count) for count in outcome.counts]
        self._close("published", counts=counts, invocation_id=result.invocation_id)
        return outcome

    def _check(self) -> Outcome:
        result = self._dbt(AUDIT, "audits")
        verdicts = ledger.audits_of(self.connection, self.load_id)
        self._refuse_failed_audits(result, verdicts)
        if not result.success:
            raise SurroundingsFailed(self._dbt_error(result))
        outcome = self._outcome("checked", verdicts)
        outcome.warnings = list(self._found(result, verdicts, "warn"))
        outcome.message = f"month {self.delivery.label} can be ingested; nothing was published"
        self._close("checked", invocation_id=result.invocation_id)
        return outcome

    def _dbt(self, arguments: list[str], step: str) -> dbt.DbtRun:
        self.progress.step(step)
        with self.clock.step(step):
            return dbt.invoke(self.settings, self.database, arguments, self.progress.node)

    def _refuse_failed_audits(self, result: dbt.DbtRun, verdicts: list[AuditResult]) -> None:
        failed = [verdict for verdict in verdicts if verdict.status == "fail"]
        if failed:
            raise self._refusal(self._found(result, verdicts, "fail"), verdicts=verdicts)

    def _found(self, result: dbt.DbtRun, verdicts: list[AuditResult], status: str) -> Iterator[Problem]:
        tables = {table.name: table for table in self.tables}
        for verdict in verdicts:
            if verdict.status == status:
                table = tables[verdict.table_name]
                test = result.tests[verdict.audit_id]
                yield from audits.failed_rows(self.connection, verdict, test, table, self.delivery.file(table))

    def _dbt_error(self, result: dbt.DbtRun) -> str:
        broken = [f"{failure.unique_id}: {failure.message}" for failure in result.failures if failure.status == "error"]
        reasons = broken or [result.error or "it did not publish the load"]
        return f"dbt failed; log in {self.settings.home / 'logs' / 'dbt.log'}\n  " + "\n  ".join(reasons)

    # Ending

    def _refusal(
        self, problems: Any, message: str | None = None, verdicts: list[AuditResult] | None = None
    ) -> Refused:
        path = self.settings.home / "rejects" / f"month_{self.delivery.label}.csv"
        outcome = self._outcome("refused", verdicts or [])
        outcome.rejects = rejects = write_rejects(problems, path)
        if message is None:
            things = "1 thing is" if rejects.count == 1 else f"{rejects.count:,} things are"
            files = "1 file" if len(rejects.files) == 1 else f"{len(rejects.files)} files"
            message = f"month {self.delivery.label} refused: {things} wrong in {files}, nothing was changed"
        outcome.message = message
        return Refused(outcome)

    def _outcome(self, state: str, verdicts: list[AuditResult] | None = None) -> Outcome:
        return Outcome(
            self.command,
            self.delivery.label,
            self.delivery.as_of,
            state,
            self.database.uri,
            audits=verdicts or [],
            timings=self.clock.finish(),
        )

    def _close(self, state: str, **entries: Any) -> None:
        ledger.finish(self.connection, self.load_id, state, timings=self.clock.finish(), **entries)

    def _lost(self, error: psycopg.Error) -> SurroundingsFailed:
        reason = (error.diag.message_primary or str(error)).strip()
        if not self.connection.closed:
            self._close("failed", error=reason)
        return SurroundingsFailed(
            f"the database failed: {reason}\nNothing is half done: ingest month {self.delivery.label} again when it is back."
        )

    def _versions(self) -> dict[str, str]:
        import importlib.metadata as metadata

        version = self.connection.info.server_version
        return {
            "streamflow": __version__,
            "python": platform.python_version(),
            "dbt": metadata.version("dbt-core"),
            "postgresql": f"{version // 10000}.{version % 10000}",
            "audited_with": dbt.audit_package() or "none",
        }


def run_month(
    settings: Settings,
    command: Command,
    month: int,
    progress: Progress,
    *,
    data_dir: Path | None = None,
    as_of: dt.date | None = None,
    force: bool = False,
) -> Outcome:
    """Ingest or check one month.

    Raises:
        Refused, SurroundingsFailed, WrongUsage: as their names say; the message is for the person at the terminal.
    """
    folder = (data_dir or settings.data_dir) / f"month_{month:03d}"
    delivery = Delivery(month, folder, as_of or settings.as_of(month))
    run = Run(settings, command, delivery, progress)
    with run.connection:
        return run.execute(force=force)
