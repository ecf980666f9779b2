"""A month from its files to its tables: find, land, audit, publish, and enter all of it in the ledger."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Generator, Iterable, Iterator, Sequence
from importlib import metadata
from itertools import chain, islice
from typing import Any

import psycopg

from loader import __version__
from loader.contract.tables import Table, load_contract
from loader.database import retries
from loader.database.connect import open_database
from loader.database.engines import engine_of
from loader.database.nodes import nodes_failed, pending_nodes
from loader.delivery.deliveries import Delivery, Problem
from loader.delivery.files import SourceFile
from loader.errors import DataRefused, StreamflowError, SurroundingsFailed, WrongUsage
from loader.landing.copy import LandedFile, Landing, NotTaken, land
from loader.landing.diagnosis import diagnose
from loader.landing.rejects import write_rejects
from loader.pipeline import compare, dbt, ledger
from loader.pipeline.failed_audits import failed_rows
from loader.pipeline.ledger import AuditResult, TableHistory
from loader.pipeline.outcome import Clock, Command, Outcome, Refused, TableCounts
from loader.pipeline.progress import Progress
from loader.readers import marts
from loader.readers.freeze import freeze
from loader.settings import Settings

AUDIT = ["test", "--select", "source:staging"]
BUILD = ["build", "--exclude-resource-type", "unit_test", "--threads", "2"]
"""Unit tests are for those who change the project."""
BUILD_SMALL = ["run", "--threads", "4"]
"""The gate runs the audits of a small month itself, all at once (macros/gate/audits.sql)."""
SMALL = 300_000
"""Rows of all files of a month up to which that is faster than having dbt run each audit, in two threads."""
EXCLUDED = ["--exclude", "config.materialized:production"]
"""Production's models do nothing."""
WITHOUT_MARTS = ["path:models/marts", "--no-populate-cache"]
"""Where the views are there as they should be, dbt need not know what else is there."""
WARNINGS_KEPT = 1_000
"""How many rows of warnings a result carries; the audits' own counts are complete."""


def run_month(
    settings: Settings,
    command: Command,
    delivery: Delivery,
    progress: Progress,
    *,
    force: bool = False,
    restate: str | None = None,
    engine: dbt.Engine | None = None,
) -> Outcome:
    """Ingest or check one month.

    Args:
        engine: dbt, perhaps as another month's run has left it, so that it need not be started anew.
        force: audit and build again even where nothing is new.
        restate: the reason why a published month is to be replaced by other rows.

    Raises:
        Refused: the data is not taken; nothing but the ledger has changed.
        SurroundingsFailed: the database or dbt failed; the month can be ingested again as it is.
        WrongUsage: settings or contract cannot be used.
    """

    engine = engine or dbt.Engine(settings)
    progress.month(delivery.label)

    def attempt() -> Outcome:
        run = Run(settings, command, delivery, progress, engine)
        with contextlib.closing(run.connection):
            outcome = run.execute(force=force, restate=restate)
            if command == "ingest" and (nodes := pending_nodes(run.connection)):
                raise SurroundingsFailed(f"{outcome.message}, but readers may see it in part: {nodes_failed(nodes)}")
            if settings.freeze and command == "ingest":
                freeze(run.connection, run.tables, outcome.as_of)
            return outcome

    return retries.whole_runs(progress.tell)(attempt)


def run_months(
    settings: Settings,
    command: Command,
    deliveries: Iterable[Delivery],
    progress: Progress,
    *,
    force: bool = False,
    restate: str | None = None,
    engine: dbt.Engine | None = None,
) -> Iterator[Outcome]:
    """Ingest or check months one after the other, dbt being started once for all of them.

    Each month is an attempt of its own, and published before the next one begins.

    Args: as of `run_month`.

    Raises:
        Refused: a month's data is not taken; those before it are published, those after it were not tried.
        SurroundingsFailed, WrongUsage: as of `run_month`, likewise.
    """
    engine = engine or dbt.Engine(settings)
    for delivery in deliveries:
        yield run_month(settings, command, delivery, progress, force=force, restate=restate, engine=engine)


class Run:
    """One attempt at one month, with what it needs at hand."""

    def __init__(
        self, settings: Settings, command: Command, delivery: Delivery, progress: Progress, engine: dbt.Engine
    ) -> None:
        self.settings, self.command, self.delivery, self.progress = settings, command, delivery, progress
        self.engine = engine
        self.clock = Clock()
        self.tables = load_contract()
        with self.clock.step("database"):
            self.database = open_database(settings)
            self.connection = self.database.connect()
        self.files: dict[str, SourceFile] = {}
        self.load_id = 0

    def execute(self, *, force: bool, restate: str | None) -> Outcome:
        """Take the lock, open an entry in the ledger, do the work, and close the entry however it ends."""
        ledger.lock(self.connection)
        ledger.prepare(self.connection)
        ledger.mark_interrupted(self.connection)
        self.load_id = ledger.begin(self.connection, self.command, self.delivery, self._versions(), restate)
        try:
            if nodes := pending_nodes(self.connection):
                raise retries.ConnectionLost(f"nothing was begun: {nodes_failed(nodes)}")
            return self._work(force, restate is not None)
        except StreamflowError as error:
            self._end_badly("refused" if isinstance(error, DataRefused) else "failed", str(error))
            raise
        except psycopg.Error as error:
            reason = (error.diag.message_primary or str(error)).strip()
            self._end_badly("failed", reason)
            raise retries.failure(self.delivery.label, reason, lost=retries.is_lost(error)) from None
        except BaseException:
            self._end_badly("interrupted", "interrupted")
            raise

    def _work(self, force: bool, restate: bool) -> Outcome:
        found = self.delivery.find(self.tables)
        self.files = found.files
        known = ledger.history_on(self.connection, self.delivery.as_of)
        published = ledger.was_published(self.connection, self.delivery)
        if restate and not published:
            raise WrongUsage(f"month {self.delivery.label} is not published: ingest it without --restate.")
        if known and not found.problems:
            with self.clock.step("compare"):
                hashes = {name: file.sha256() for name, file in self.files.items()}
                differing = compare.differing_tables(self.tables, hashes, known)
                if differing and published and not restate:
                    self._refuse_other_rows(differing)
            if restate or not published:
                known = {name: known[name] for name in known.keys() - {table.name for table in differing}}
            if compare.is_published(self.tables, known) and self.command == "ingest" and not force:
                return self._unchanged(known)
        if self.command == "ingest":
            ledger.require_finished_months(self.connection, self.delivery)
        if not found.files:
            raise self._refusal(found.problems)
        self.engine.warm_up(self.database, self.connection)
        landing = self._land(self.tables)
        if found.problems or landing.problems or landing.not_taken:
            raise self._refusal(self._everything_wrong(found.problems, landing))
        ledger.set_staged(self.connection, self.load_id, self.delivery, landing.files)
        if self.command == "check":
            return self._check()
        rows = sum(file.rows for file in landing.files)
        build = BUILD_SMALL if rows <= SMALL else BUILD
        skipped = WITHOUT_MARTS if marts.up_to_date(self.connection) else []
        return self._publish(known, [*build, *EXCLUDED, *skipped])

    def _refuse_other_rows(self, differing: list[Table]) -> None:
        """Refuse a month of which history was built from other rows than those at hand, not only from other files."""
        landing = self._land(differing)
        if landing.problems or landing.not_taken:
            raise self._refusal(chain(landing.problems, self._wrong_values(landing.not_taken)))
        counts = [compare.rows_that_differ(self.connection, table, self.delivery) for table in differing]
        problems = [
            Problem(self.files[table.name].name, f"rows that differ from what is published: {count:,}")
            for table, count in zip(differing, counts, strict=True)
            if count
        ]
        if problems:
            month = ledger.month_published_on(self.connection, self.delivery)
            message = (
                f"month {month} is published already for {self.delivery.as_of}, from other files; nothing was changed"
            )
            raise self._refusal(problems, message)

    def _unchanged(self, known: dict[str, TableHistory]) -> Outcome:
        message = f"month {self.delivery.label} is published already, from these same rows: nothing to do"
        outcome = self._outcome("unchanged", message)
        outcome.counts = [TableCounts.of(known[table.name]).again() for table in self.tables]
        self._close("unchanged")
        return outcome

    def _land(self, tables: Sequence[Table]) -> Landing:
        self.progress.step("landing")
        there = [self.files[table.name] for table in tables if table.name in self.files]
        self.progress.files({file.name: file.size for file in there})
        ledger.clear_staged(self.connection)
        with self.clock.step("landing"):
            landing = land(
                self.database, self.delivery, tables, self.files, self.progress.advance, engine_of(self.connection)
            )
        ledger.enter_files(self.connection, self.load_id, landing.files)
        return landing

    def _everything_wrong(self, problems: list[Problem], landing: Landing) -> Iterator[Problem]:
        """What is wrong with files and with values, and then what the audits say of everything else."""
        yield from problems
        yield from landing.problems
        read_whole = yield from self._wrong_values(landing.not_taken)
        mended = [LandedFile(stopped.table.name, stopped.problem.file, "", 0, 0) for stopped in landing.not_taken]
        if not read_whole or not (landing.files or mended):
            return
        ledger.mark_refused(self.connection, self.load_id)
        ledger.set_staged(self.connection, self.load_id, self.delivery, [*landing.files, *mended])
        result = self._dbt(AUDIT, "audits")
        ledger.clear_staged(self.connection)
        sound = {file.table for file in landing.files}
        for verdict in ledger.audits_of(self.connection, self.load_id):
            if verdict.status == "fail" and self._still_telling(verdict, result, sound, {m.table for m in mended}):
                yield from self._rows_of(verdict, result)

    def _wrong_values(self, not_taken: Sequence[NotTaken]) -> Generator[Problem, None, bool]:
        """All wrong values of the files that were not taken; returns whether the files could be read to their ends."""
        if not_taken:
            self.progress.step("looking for everything that is wrong")
        read_whole = True
        for stopped in not_taken:
            table = stopped.table
            read_whole &= yield from diagnose(self.database, self.delivery, table, self.files[table.name], stopped)
        return read_whole

    def _still_telling(self, verdict: AuditResult, result: dbt.DbtRun, sound: set[str], mended: set[str]) -> bool:
        """Whether an audit's failure says something new where some files are missing, and wrong values are null."""
        test = result.audits[verdict.audit_id].test
        table = next(table for table in self.tables if table.name == verdict.table_name)
        if test == "relationships" and table.references not in sound | mended:
            return False
        return table.name in sound or (table.name in mended and test != "null_percent")

    def _publish(self, before: dict[str, TableHistory], build: list[str]) -> Outcome:
        """Run dbt; a table that production had taken in `before` is counted as unchanged."""
        result, verdicts, warnings = self._audited(build, "audits and tables")
        if ledger.state_of(self.connection, self.load_id) != "published":
            raise self._dbt_failed(result)
        known = ledger.history_on(self.connection, self.delivery.as_of)
        done = "found as it was published" if compare.is_published(self.tables, before) else "published"
        message = f"month {self.delivery.label} {done}, as of {self.delivery.as_of}"
        outcome = self._outcome("published", message, verdicts)
        published = [TableCounts.of(known[table.name]) for table in self.tables]
        settled = {name for name, history in before.items() if history.merged_at}
        outcome.counts = [count.again() if count.table in settled else count for count in published]
        outcome.warnings = warnings
        counts = [vars(count) for count in published]
        self._close("published", counts=counts, invocation_id=result.invocation_id)
        return outcome

    def _check(self) -> Outcome:
        result, verdicts, warnings = self._audited(AUDIT, "audits")
        message = f"month {self.delivery.label} can be ingested; nothing was published"
        outcome = self._outcome("checked", message, verdicts)
        outcome.warnings = warnings
        self._close("checked", invocation_id=result.invocation_id)
        return outcome

    def _audited(self, arguments: list[str], step: str) -> tuple[dbt.DbtRun, list[AuditResult], list[Problem]]:
        """Run dbt; returns its result, the verdicts of all audits, and what the warnings are about.

        Raises:
            Refused: an error-level audit failed.
        """
        result = self._dbt(arguments, step)
        verdicts = ledger.audits_of(self.connection, self.load_id)
        if any(verdict.status == "fail" for verdict in verdicts):
            raise self._refusal(self._found(result, verdicts, "fail"), verdicts=verdicts)
        if not result.success:
            raise self._dbt_failed(result)
        return result, verdicts, list(islice(self._found(result, verdicts, "warn"), WARNINGS_KEPT))

    def _dbt(self, arguments: list[str], step: str) -> dbt.DbtRun:
        self.progress.step(step)
        with self.clock.step(step):
            result = self.engine.invoke(self.database, self.connection, arguments, self.progress.node)
        for reason in result.errors:
            if (lost := retries.LOST.search(reason)) or retries.DISK_FULL.search(reason):
                raise retries.failure(self.delivery.label, reason, lost=bool(lost))
        return result

    def _found(self, result: dbt.DbtRun, verdicts: list[AuditResult], status: str) -> Iterator[Problem]:
        for verdict in verdicts:
            if verdict.status == status:
                yield from self._rows_of(verdict, result)

    def _rows_of(self, verdict: AuditResult, result: dbt.DbtRun) -> Iterator[Problem]:
        table = next(table for table in self.tables if table.name == verdict.table_name)
        if not result.audits[verdict.audit_id].compiled:  # the gate ran the audit itself
            result.audits.update(self._dbt(["compile", "--select", "source:staging"], "audits").audits)
        audit = result.audits[verdict.audit_id]
        return failed_rows(self.connection, audit, verdict.failures, table, self.files[table.name])

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

    def _end_badly(self, state: str, error: str) -> None:
        with contextlib.suppress(psycopg.Error):  # where the ledger cannot be reached, the next run enters the end
            self._close(state, error=error)

    def _versions(self) -> dict[str, str]:
        version = self.connection.info.server_version
        return {
            "streamflow": __version__,
            "python": platform.python_version(),
            "dbt": metadata.version("dbt-core"),
            "postgresql": f"{version // 10000}.{version % 10000}",
            "audited_with": dbt.audit_package() or "none",
            "marts": marts.version(),
        }
