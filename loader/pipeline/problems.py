"""All that is wrong with a month that is refused: files, values, and the rows that audits found."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loader.contract.tables import Table
from loader.database import Connection, Database
from loader.delivery import Delivery, Problem, TableFiles
from loader.landing import LandedFile, Landing, NotTaken, diagnose
from loader.pipeline import compare, ledger
from loader.pipeline.audit_reasons import OTHER_CUSTOMERS
from loader.pipeline.dbt import DbtRun
from loader.pipeline.failed_audits import failed_rows
from loader.pipeline.ledger import AuditResult

NEARLY_NONE = 10
"""Percent of the published customers: a file that has less of them is one of other customers."""


@dataclass(frozen=True)
class Problems:
    """Tells what is wrong with a month's files; `files` has them by the name of their table."""

    database: Database
    connection: Connection
    delivery: Delivery
    load_id: int
    tables: Sequence[Table]
    files: Mapping[str, TableFiles]

    def everything(
        self, of_files: Sequence[Problem], landing: Landing, audit: Callable[[], DbtRun]
    ) -> Iterator[Problem]:
        """What is wrong with files and with values, and then what the audits say of everything else."""
        yield from of_files
        yield from landing.problems
        read_whole = yield from self.wrong_values(landing.not_taken)
        mended = [LandedFile(stopped.table.name, stopped.problem.file, "", 0, 0) for stopped in landing.not_taken]
        if not read_whole or not (landing.files or mended):
            return
        ledger.mark_refused(self.connection, self.load_id)
        ledger.set_staged(self.connection, self.load_id, self.delivery, [*landing.files, *mended])
        result = audit()
        ledger.clear_staged(self.connection)
        sound = {file.table for file in landing.files}
        for verdict in ledger.audits_of(self.connection, self.load_id):
            if verdict.status == "fail" and self._still_telling(verdict, result, sound, {m.table for m in mended}):
                yield from self._rows_of(result, verdict)

    def wrong_values(self, not_taken: Sequence[NotTaken]) -> Generator[Problem, None, bool]:
        """All wrong values of the files that were not taken; returns whether the files could be read to their ends."""
        read_whole = True
        for stopped in not_taken:
            file = self.files[stopped.table.name]
            read_whole &= yield from diagnose(self.database, self.delivery, stopped.table, file, stopped)
        return read_whole

    def other_rows(self, differing: Sequence[Table]) -> Iterator[Problem]:
        """The landed files that hold other rows than history has from that date, with the number of customers."""
        for table in differing:
            count, known, published = compare.rows_that_differ(self.connection, table, self.delivery)
            name = self.files[table.name].name
            if count and table.is_per_customer and known * 100 < published * NEARLY_NONE:
                reason = f"other customers: it has {known:,} of the {published:,} that are published"
                yield Problem(name, reason, remedy=OTHER_CUSTOMERS)
            elif count:
                yield Problem(name, f"rows that differ from what is published: {count:,}")

    def found_by(self, result: DbtRun, verdicts: Sequence[AuditResult], status: str) -> Iterator[Problem]:
        """The rows that the audits with that verdict found."""
        for verdict in verdicts:
            if verdict.status == status:
                yield from self._rows_of(result, verdict)

    def _rows_of(self, result: DbtRun, verdict: AuditResult) -> Iterator[Problem]:
        if verdict.finding:
            yield Problem(self.files[verdict.table_name].name, verdict.finding, audit=verdict.audit_name)
            return
        table = next(table for table in self.tables if table.name == verdict.table_name)
        audit = result.audits[verdict.audit_id]
        yield from failed_rows(self.connection, audit, verdict.failures, table, self.files[table.name])

    def _still_telling(self, verdict: AuditResult, result: DbtRun, sound: set[str], mended: set[str]) -> bool:
        """Whether an audit's failure says something new where some files are missing, and wrong values are null."""
        audit = result.audits[verdict.audit_id]
        if audit.others and not all(table.name in sound | mended for table in self.tables):
            return False
        return verdict.table_name in sound or (verdict.table_name in mended and audit.test != "null_percent")
