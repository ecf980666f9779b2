"""One attempt at one month: its steps, and how each of them can end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import psycopg

from loader import ledger
from loader.contract.declared import require_unchanged
from loader.contract.tables import Table
from loader.database import files_at_once, node_failure, open_database, reporting_blockers, retries
from loader.delivery import Delivery, Found, Problem, TableFiles
from loader.errors import DataRefused, StreamflowError, WrongUsage, reason
from loader.landing import Landing, land, remember_tables
from loader.ledger import TableHistory, chain
from loader.pipeline.dbt import BUILD, FINISH, REFERENCES, Dbt, DbtRun, Node
from loader.pipeline.outcome import BEGUN, FINISHED, PUBLISHED, WARNINGS_KEPT, Outcome, Refused, Request
from loader.pipeline.progress import Progress

if TYPE_CHECKING:
    from loader.refusals.problems import Problems


class Run:
    """One attempt at one month: the state that its steps share, and the steps."""

    def __init__(self, dbt: Dbt, request: Request, delivery: Delivery, tables: list[Table], progress: Progress) -> None:
        self.dbt, self.settings, self.progress, self.request = dbt, dbt.settings, progress, request
        self.delivery, self.tables, self._restates = delivery, tables, request.restate is not None
        self._began, self._seconds = time.perf_counter(), dict[str, float]()
        with self._timed("database"):
            self.database = open_database(self.settings)
            self.connection = self.database.connect()
        self.outcome = Outcome(request.command, delivery.label, delivery.as_of, "failed", self.database.uri)
        self.files, self._landed, self.load_id = dict[str, TableFiles](), dict[str, int](), 0

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step] = round(time.perf_counter() - began, 3)

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """Run a step; report the sessions that block it."""
        self.progress.step(name)
        with self._timed(name), reporting_blockers(self.database, self.progress.tell):
            yield

    @property
    def _timings(self) -> dict[str, float]:
        return {**self._seconds, "total": round(time.perf_counter() - self._began, 3)}

    def execute(self) -> Outcome:
        """Take the lock, open an entry in the ledger, do the work, and close the entry however it ends."""
        later = ledger.came_later(self.connection, [table.name for table in self.tables], self.delivery.as_of)
        found = self.delivery.find(self.tables, later)
        if self.request.waive:
            from loader.refusals.audits import require_waivable

            require_waivable(self.dbt.manifest(self.database), self.tables, self.request.waive)
        ledger.lock(self.connection)
        ledger.prepare(self.connection)
        ledger.require_same_date(self.connection, self.delivery)
        require_unchanged(self.connection, self.tables)
        remember_tables(self.connection, self.tables)
        asked = self.request
        self.load_id = ledger.begin(self.connection, self.delivery, asked.command, asked.restate, asked.waive)
        try:
            if failure := node_failure(self.connection):
                raise retries.ConnectionLost(f"nothing was begun: {failure}")
            self._work(found)
        except WrongUsage:  # this was no attempt at the month; nothing was begun
            ledger.take_back(self.connection, self.load_id)
            raise
        except psycopg.Error as error:
            self._close("failed", reason(error))
            raise retries.failure(self.delivery.label, error) from None
        except BaseException as error:
            said = str(error) if isinstance(error, StreamflowError) else f"{type(error).__name__}: {error}".rstrip(": ")
            ended = "failed" if isinstance(error, Exception) else "interrupted"
            self._close("refused" if isinstance(error, DataRefused) else ended, said)
            raise
        self._close(self.outcome.state)
        return self.outcome

    def _work(self, found: Found) -> None:
        self.files = found.files
        standing, known = self._standing(), self._history()
        ledger.require_ingestible(standing, self.delivery.label, has_history=bool(known), restates=self._restates)
        if known and not found.problems and self._is_in_history(known, found, standing):
            self._finish_known_month(known)
            return
        if not found.files:
            raise self._refusal(found.problems)
        self.dbt.prepare(self.database)
        landing = self._land(self.tables)
        if found.problems or landing.not_taken:
            self.progress.step("looking for everything that is wrong")
            every = self._problems().everything(found.problems, landing, partial(self._dbt, self.dbt.audit, "audits"))
            raise self._refusal(every)
        ledger.set_staged(self.connection, self.load_id, self.delivery, self._landed)
        self._carry_out(landing)

    def _carry_out(self, landing: Landing) -> None:
        """Do what the command asks for with the rows that landed."""
        if self.request.command == "land":
            build = "streamflow dbt build" if self.database.embedded else "dbt build"
            self._end("landed", f"month {self.delivery.label} is in staging: `{build}` does the rest")
            return
        ledger.require_months_before(self.connection)
        if self.request.command == "check":
            self._require_passed(self._dbt(self.dbt.audit, "audits"))
            if not (references := self._dbt(partial(self.dbt.run, REFERENCES), "references")).success:
                self._require_passed(references)
            self._end("checked", f"month {self.delivery.label} can be ingested; nothing was published")
        else:
            self._audit_and_publish(landing)

    def _is_in_history(self, known: dict[str, TableHistory], found: Found, standing: ledger.Standing) -> bool:
        """Whether history has all these rows and nothing more is asked; Refused for other rows, if not restated."""
        with self._timed("compare"):
            hashes = found.hashes()
        if found.problems:
            raise self._refusal(found.problems)
        contents = found.contents(hashes, self._contents(known, hashes, not standing.archived_in))
        differing = [one for one in self.tables if one.name in known and known[one.name].content != contents[one.name]]
        if differing or (self._restates and any(one.is_outdated for one in known.values())):
            ledger.require_here(standing, self.delivery.as_of)
            if self._restates:
                return False
            self._require_same_rows(differing, standing)
            for one in differing:  # these files count as those that history was built from
                self.files[one.name] = replace(self.files[one.name], same_as=known[one.name].content)
        asked = self.request.command == "ingest" or (self.request.command == "land" and standing.is_finished)
        return asked and found.files.keys() <= known.keys() and not self.request.force

    def _contents(self, known: dict[str, TableHistory], hashes: dict[str, str], is_here: bool) -> dict[str, str | None]:
        contents = {name: one.content for name, one in known.items()}
        if not (self._restates and is_here):  # a restatement compares rows, as it may read the same bytes otherwise
            return contents
        by_bytes = [one for one in self.tables if hashes.get(one.name, "") == contents.get(one.name)]
        return {name: contents[name] for name in contents.keys() - self._other_rows(by_bytes).keys()}

    def _require_same_rows(self, differing: Sequence[Table], standing: ledger.Standing) -> None:
        if problems := self._other_rows(differing):
            ledger.require_landed(self.connection, self.delivery, self._landed)
            message = PUBLISHED if standing.is_finished else BEGUN
            if self.request.command == "ingest" and not standing.is_finished:
                self._finish()
                standing, message = self._standing(), FINISHED
            message = message.format(standing.month or self.delivery.label, self.delivery.as_of)
            raise self._refusal(problems.values(), message)

    def _other_rows(self, tables: Sequence[Table]) -> dict[str, Problem]:
        """Land these tables; return the problem of each that has other rows than history."""
        if tables and (landing := self._land(tables)).not_taken:
            raise self._refusal(self._problems().wrong_values(landing))
        return {table.name: problem for table in tables if (problem := self._problems().other_rows(table))}

    def _finish_known_month(self, known: dict[str, TableHistory]) -> None:
        """Handle rows that history already has: finish what was left undone, if anything."""
        left = ledger.left_to_build(self.connection, self.delivery.as_of)
        before = self._standing()
        message = f"month {before.month or self.delivery.label} is published already, from these same rows: "
        if before.is_finished and (left == [] or self.request.command != "ingest"):
            self._take_counts(known)
            self._end("unchanged", message + "nothing to do", before.load_id)
            return
        if ledger.is_unaudited(self.connection, self.delivery.as_of):
            self._dbt(self.dbt.audit, "audits")
        finished = DbtRun(True) if before.is_finished else self._finish()
        result = self._dbt(partial(self.dbt.build_again, left), "models").after(finished)
        message += "what had failed was built" if result.success else "what had failed fails again"
        if (now := self._standing().load_id) == before.load_id:
            self._published(result, message)
        else:
            self._published(result, f"month {self.delivery.label} published, which was begun before", now)

    def _land(self, tables: Sequence[Table]) -> Landing:
        parts = [part for table in tables if table.name in self.files for part in self.files[table.name].parts]
        with self._step("landing"):
            self.progress.files(len(parts), sum(part.size for part in parts))
            ledger.clear_staged(self.connection)
            ledger.undo_unfinished(self.connection)
            at_once = files_at_once(self.connection)
            landing = land(self.database, self.delivery, tables, self.files, at_once, self.load_id)
        ledger.enter_files(self.connection, self.load_id, landing.files)
        self._landed = {file.table: file.rows for file in landing.files}
        return landing

    def _problems(self) -> Problems:
        from loader.refusals.problems import Problems

        return Problems(self.database, self.connection, self.delivery, self.load_id, self.tables, self.files)

    def _audit_and_publish(self, landing: Landing) -> None:
        result = audited = self._dbt(partial(self.dbt.run, BUILD), "audits and tables")
        if not (result.success or (result.tests and ledger.audits_of(self.connection, self.load_id))):
            audited = self._dbt(self.dbt.audit, "audits")  # a hook that failed kept the verdicts from being entered
        self._require_passed(audited)
        if not self._standing().is_finished and self._history():
            result = self._finish(result)
        published, known = self._standing().load_id, self._history()
        stands = {name: one.content for name, one in known.items() if not one.is_outdated}
        same = all(stands.get(file.table) == file.content for file in landing.files)
        if published is None or (self._restates and published != self.load_id and not same):
            raise result.failure(self.delivery.label, self.settings.home)
        done = "published" if published == self.load_id else "stands as published"
        self._published(result, f"month {self.delivery.label} {done}, as of {self.delivery.as_of}")

    def _finish(self, before: DbtRun | None = None) -> DbtRun:
        """Have production take in a month whose history stands; return this run and `before` as one.

        Raises:
            SurroundingsFailed: the month is still not published.
        """
        result = self._dbt(partial(self.dbt.run, FINISH), "tables").after(before or DbtRun(True))
        if not self._standing().is_finished:
            raise result.failure(self.delivery.label, self.settings.home)
        return result

    def _standing(self) -> ledger.Standing:
        return ledger.standing(self.connection, self.delivery.as_of)

    def _history(self) -> dict[str, TableHistory]:
        return ledger.history_on(self.connection, self.delivery.as_of, self.load_id)

    def _published(self, result: DbtRun, message: str, load_id: int | None = None) -> None:
        """End with a published month. Counts are of the load, by default this run's; other history is unchanged."""
        self._take_counts(ledger.history_on(self.connection, self.delivery.as_of, load_id or self.load_id))
        hooks = [Node("on-run hook", "dbt", "error", error) for error in result.errors]
        self.outcome.failed = [*hooks, *sorted(result.bad, key=lambda node: node.status == "skipped")]
        if published := self._standing().load_id:
            self.outcome.manifest = chain.line_of(self.connection, published)
        self._end("published", message, None if self.outcome.audits else published)

    def _take_counts(self, known: dict[str, TableHistory]) -> None:
        self.outcome.counts = [known[table.name].counts for table in self.tables if table.name in known]

    def _require_passed(self, result: DbtRun) -> None:
        """Require that no error-level audit failed; the outcome gets the verdicts and the rows behind warnings.

        Raises:
            Refused: an error-level audit failed.
        """
        self.outcome.audits = ledger.audits_of(self.connection, self.load_id)
        standing = self._standing()
        failed = self.outcome.audits_that("fail") if standing.load_id != self.load_id else []  # else: it has passed
        goes_on = self.request.command != "check" and (self.outcome.audits or standing.is_finished)
        if failed or not goes_on:
            ledger.require_landed(self.connection, self.delivery, self._landed)
        if failed:
            raise self._refusal(self._problems().found_by(result, failed))
        if not result.success and not goes_on:
            raise result.failure(self.delivery.label, self.settings.home)
        if warned := result.tests and self.outcome.audits_that("warn"):
            found = self._problems().found_by(result, warned)
            self.outcome.warnings = list(islice(found, WARNINGS_KEPT))
            self.outcome.more_warnings = sum(1 for _ in found)

    def _dbt(self, run: Callable[..., DbtRun], step: str) -> DbtRun:
        with self._step(step):
            result = run(self.database, partial(ledger.register_run, self.connection), self.progress.node)
        if not result.success and result.lost_a_session:
            raise retries.ConnectionLost(
                f"{result.failure(self.delivery.label, self.settings.home)}\nIngest month {self.delivery.label} again."
            )
        if any(node.status == "error" for node in result.bad):
            from loader.refusals.audits import require_runnable

            require_runnable(self.connection, result)
        return result

    def _refusal(self, problems: Iterable[Problem], message: str | None = None) -> Refused:
        from loader.refusals.rejects import write_rejects

        path = self.settings.home / "rejects" / f"month_{self.delivery.label}.csv"
        self.outcome.rejects = rejects = write_rejects(problems, path, self.delivery.label, message)
        self._end("refused", rejects.sentence)
        return Refused(self.outcome, rejects)

    def _end(self, state: str, message: str, audited: int | None = None) -> None:
        of = self.connection, audited or self.load_id  # the load whose verdicts and waivers count
        self.outcome.state, self.outcome.message, self.outcome.timings = state, message, self._timings
        self.outcome.audits, self.outcome.waivers = ledger.audits_of(*of), ledger.waivers_of(*of)

    def _close(self, state: str, error: str | None = None) -> None:
        names = [node.name for node in self.outcome.failed]
        with contextlib.suppress(psycopg.Error):  # if the ledger cannot be reached, the next run marks the end
            ledger.finish(self.connection, self.load_id, state, timings=self._timings, failed_nodes=names, error=error)
