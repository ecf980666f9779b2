"""One month from its files to its tables: find, land, audit, publish, and enter all of it in the ledger."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any

import psycopg

from loader import __version__, audits, compare, dbt, ledger
from loader.contracts import Table, load_contract
from loader.database import open_database
from loader.deliveries import Delivery, Problem, sha256
from loader.errors import DataRefused, StreamflowError, SurroundingsFailed
from loader.landing import LandedFile, land
from loader.ledger import AuditResult, TableHistory
from loader.models import write_models
from loader.outcome import Clock, Command, Outcome, Refused, TableCounts
from loader.progress import Progress
from loader.rejects import write_rejects
from loader.settings import Settings

BUILD = ["build", "--exclude-resource-type", "unit_test", "--no-write-json"]
AUDIT = ["test", "--select", "source:staging", "--no-write-json"]


def run_month(
    settings: Settings, command: Command, delivery: Delivery, progress: Progress, *, force: bool = False
) -> Outcome:
    """Ingest or check one month.

    Raises:
        Refused: the data is not taken; nothing but the ledger has changed.
        SurroundingsFailed: the database or dbt failed; the month can be ingested again as it is.
        WrongUsage: settings or contract cannot be used.
    """
    run = Run(settings, command, delivery, progress)
    with run.connection:
        return run.execute(force=force)


class Run:
    """One attempt at one month, with what it needs at hand."""

    def __init__(self, settings: Settings, command: Command, delivery: Delivery, progress: Progress) -> None:
        self.settings, self.command, self.delivery, self.progress = settings, command, delivery, progress
        self.clock = Clock()
        self.tables = load_contract()
        with self.clock.step("database"):
            self.database = open_database(settings)
            self.connection = self.database.connect()
        self.load_id = 0

    def execute(self, *, force: bool) -> Outcome:
        """Take the lock, open an entry in the ledger, do the work, and close the entry however it ends."""
        ledger.prepare(self.connection)
        ledger.lock(self.connection)
        ledger.mark_interrupted(self.connection)
        self.load_id = ledger.begin(self.connection, self.command, self.delivery, self._versions())
        try:
            return self._work(force)
        except StreamflowError as error:
            self._close("refused" if isinstance(error, DataRefused) else "failed", error=str(error))
            raise
        except psycopg.Error as error:
            raise self._lost(error) from None
        except BaseException:
            self._close("interrupted", error="interrupted")
            raise

    def _work(self, force: bool) -> Outcome:
        if problems := self.delivery.find_problems(self.tables):
            raise self._refusal(problems)
        if self.command == "ingest" and (known := ledger.history_on(self.connection, self.delivery.as_of)):
            with self.clock.step("compare"):
                self._refuse_other_rows(known)
            if compare.is_published(self.tables, known) and not force:
                return self._unchanged(known)
        dbt.import_in_background()
        write_models(self.tables)
        files = self._land(self.tables)
        ledger.set_staged(self.connection, self.load_id, self.delivery, files)
        return self._publish() if self.command == "ingest" else self._check()

    def _refuse_other_rows(self, known: dict[str, TableHistory]) -> None:
        """Refuse a month of which history was built from other rows than those at hand."""
        hashes = {table.name: sha256(self.delivery.file(table)) for table in self.tables}
        differing = compare.differing_tables(self.tables, hashes, known)
        if not differing:
            return
        self._land(differing)
        counts = [compare.rows_that_differ(self.connection, table, self.delivery) for table in differing]
        problems = [
            Problem(self.delivery.file(table).name, f"{count:,} rows differ from what is published")
            for table, count in zip(differing, counts, strict=True)
            if count
        ]
        if problems:
            message = f"month {self.delivery.label} is published already, from other files; nothing was changed"
            raise self._refusal(problems, message)

    def _unchanged(self, known: dict[str, TableHistory]) -> Outcome:
        message = f"month {self.delivery.label} is published already, from these same rows: nothing to do"
        outcome = self._outcome("unchanged", message)
        outcome.counts = [TableCounts.of(known[table.name]) for table in self.tables]
        self._close("unchanged")
        return outcome

    def _land(self, tables: Sequence[Table]) -> list[LandedFile]:
        self.progress.step("landing")
        self.progress.files({self.delivery.file(t).name: self.delivery.file(t).stat().st_size for t in tables})
        ledger.clear_staged(self.connection)
        with self.clock.step("landing"):
            files, problems = land(self.database, self.delivery, tables, self.progress.advance)
        ledger.enter_files(self.connection, self.load_id, files)
        if problems:
            raise self._refusal(problems)
        return files

    def _publish(self) -> Outcome:
        result, verdicts, warnings = self._dbt(BUILD, "audits and tables")
        if ledger.state_of(self.connection, self.load_id) != "published":
            raise self._dbt_failed(result)
        known = ledger.history_on(self.connection, self.delivery.as_of)
        message = f"month {self.delivery.label} published, as of {self.delivery.as_of}"
        outcome = self._outcome("published", message, verdicts)
        outcome.counts = [TableCounts.of(known[table.name]) for table in self.tables]
        outcome.warnings = warnings
        counts = [vars(count) for count in outcome.counts]
        self._close("published", counts=counts, invocation_id=result.invocation_id)
        return outcome

    def _check(self) -> Outcome:
        result, verdicts, warnings = self._dbt(AUDIT, "audits")
        message = f"month {self.delivery.label} can be ingested; nothing was published"
        outcome = self._outcome("checked", message, verdicts)
        outcome.warnings = warnings
        self._close("checked", invocation_id=result.invocation_id)
        return outcome

    def _dbt(self, arguments: list[str], step: str) -> tuple[dbt.DbtRun, list[AuditResult], list[Problem]]:
        """Run dbt; returns its result, the verdicts of all audits, and what the warnings are about."""
        self.progress.step(step)
        with self.clock.step(step):
            result = dbt.invoke(self.settings, self.database, arguments, self.progress.node)
        verdicts = ledger.audits_of(self.connection, self.load_id)
        if any(verdict.status == "fail" for verdict in verdicts):
            raise self._refusal(self._found(result, verdicts, "fail"), verdicts=verdicts)
        if not result.success:
            raise self._dbt_failed(result)
        return result, verdicts, list(self._found(result, verdicts, "warn"))

    def _found(self, result: dbt.DbtRun, verdicts: list[AuditResult], status: str) -> Iterator[Problem]:
        tables = {table.name: table for table in self.tables}
        for verdict in (verdict for verdict in verdicts if verdict.status == status):
            table = tables[verdict.table_name]
            test = result.tests[verdict.audit_id]
            yield from audits.failed_rows(self.connection, verdict, test, table, self.delivery.file(table))

    def _dbt_failed(self, result: dbt.DbtRun) -> SurroundingsFailed:
        reasons = result.errors or ["dbt ended without publishing the month"]
        log = self.settings.home / "logs" / "dbt.log"
        return SurroundingsFailed("\n  ".join([f"dbt failed; its log is {log}", *reasons]))

    def _refusal(
        self, problems: Iterable[Problem], message: str | None = None, verdicts: list[AuditResult] | None = None
    ) -> Refused:
        path = self.settings.home / "rejects" / f"month_{self.delivery.label}.csv"
        rejects = write_rejects(problems, path)
        if message is None:
            things = "1 thing is" if rejects.count == 1 else f"{rejects.count:,} things are"
            files = "1 file" if len(rejects.files) == 1 else f"{len(rejects.files)} files"
            message = f"month {self.delivery.label} refused: {things} wrong in {files}, nothing was changed"
        outcome = self._outcome("refused", message, verdicts)
        outcome.rejects = rejects
        return Refused(outcome, rejects)

    def _outcome(self, state: str, message: str, verdicts: list[AuditResult] | None = None) -> Outcome:
        return Outcome(
            self.command,
            self.delivery.label,
            self.delivery.as_of,
            state,
            self.database.uri,
            message,
            audits=verdicts or [],
            timings=self.clock.timings,
        )

    def _close(self, state: str, **entries: Any) -> None:
        ledger.finish(self.connection, self.load_id, state, timings=self.clock.timings, **entries)

    def _lost(self, error: psycopg.Error) -> SurroundingsFailed:
        reason = (error.diag.message_primary or str(error)).strip()
        if not self.connection.closed:
            self._close("failed", error=reason)
        again = f"Nothing is half done: ingest month {self.delivery.label} again when it is back."
        return SurroundingsFailed(f"the database failed: {reason}\n{again}")

    def _versions(self) -> dict[str, str]:
        version = self.connection.info.server_version
        return {
            "streamflow": __version__,
            "python": platform.python_version(),
            "dbt": metadata.version("dbt-core"),
            "postgresql": f"{version // 10000}.{version % 10000}",
            "audited_with": dbt.audit_package() or "none",
        }
