"""All that is wrong with a month that is refused: files, values, and the rows that audits found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from loader import ledger
from loader.contract.declared import columns_in_database
from loader.contract.tables import Table
from loader.database import Connection, Database, identifiers, one_row, statement
from loader.delivery import Delivery, Problem, TableFiles
from loader.landing import Landing
from loader.ledger import AuditResult
from loader.pipeline.dbt import DbtRun
from loader.refusals.audit_reasons import OTHER_CUSTOMERS, of_table
from loader.refusals.audits import audit_in
from loader.refusals.diagnosis import Unread, diagnose
from loader.refusals.failed_audits import failed_rows

REMEMBERED = 100_000
"""How many problems are remembered in `told`."""
NEARLY_NONE = 10
"""Percent: a file with fewer of the published customers counts as a file of other customers."""


@dataclass(frozen=True)
class Problems:
    """Finds what is wrong with a month's files; `files` has them by table name."""

    database: Database
    connection: Connection
    delivery: Delivery
    load_id: int
    tables: Sequence[Table]
    files: Mapping[str, TableFiles]
    told: set[tuple[str, int | None, str | None]] = field(default_factory=set)
    """File, line and column of reported problems, up to REMEMBERED: audits do not report these again."""
    unread: set[str] = field(default_factory=set)
    """Tables with a file that could not be read to its end."""
    without_keys: set[str] = field(default_factory=set)
    """Tables with wrong keys: audits cannot tell which rows of other tables refer to none of their rows."""

    def everything(
        self, of_files: Sequence[Problem], landing: Landing, audit: Callable[[], DbtRun]
    ) -> Iterator[Problem]:
        """Yield the problems of files and values, and then the rows that audits find in everything else."""
        yield from of_files
        yield from self.wrong_values(landing)
        sound = {file.table: file.rows for file in landing.files}
        mended = landing.not_taken.keys() - self.unread
        rows = sound | dict.fromkeys(mended, 0)
        if not rows:
            return
        ledger.set_staged(self.connection, self.load_id, self.delivery, rows, refused=True)
        try:
            result = audit()
        finally:  # no build may use rows with null in place of wrong values
            ledger.clear_staged(self.connection)
        unchecked = set[str]()
        for verdict in ledger.audits_of(self.connection, self.load_id):
            if verdict.status == "fail" and self._still_telling(verdict, result, set(sound), mended):
                yield from self._rows_of(result, verdict)
            elif verdict.status == "fail":
                unchecked |= audit_in(result, verdict.audit_id).reads & self.without_keys - {verdict.table_name}
        for name in sorted(unchecked):
            yield Problem(
                self.files[name].name, "references to its rows were not checked, as some keys in it are wrong"
            )

    def wrong_values(self, landing: Landing) -> Iterator[Problem]:
        """Yield all problems of the files that did not land."""
        for table in (table for table in self.tables if table.name in landing.not_taken):
            files, stopped = self.files[table.name], landing.not_taken[table.name]
            for problem in diagnose(self.database, self.delivery, table, files, stopped, self.load_id):
                column = table.column(problem.column).name if problem.column else None
                if problem.line and len(self.told) < REMEMBERED:
                    self.told.add((problem.file, problem.line, column))
                if column in table.key and problem.value is not None:
                    self.without_keys.add(table.name)
                if isinstance(problem, Unread):
                    self.unread.add(table.name)
                yield problem

    def other_rows(self, table: Table) -> Problem | None:
        """The problem of a table whose landed rows differ from history of that date; None if they are the same."""
        name, history = self.files[table.name].name, f"{table.name}_snapshots"
        known = columns_in_database(self.connection, [history])[history]
        published = [
            sql.Identifier(column.name)
            if column.name in known
            else sql.SQL("null::{} as {}").format(sql.SQL(column.data_type), sql.Identifier(column.name))
            for column in table.columns
        ]
        query = statement(__file__, "rows_that_differ").format(
            columns=identifiers(table.column_names),
            published=sql.SQL(", ").join(published),
            staging=sql.Identifier("staging", table.name),
            history=sql.Identifier("public", history),
            as_of=sql.Literal(self.delivery.as_of),
            key=identifiers(table.key),
            first=sql.Identifier(table.key[0]),
        )
        count, in_both, in_history = one_row(self.connection, query)
        if not count:
            return None
        if table.is_per_customer and in_both * 100 < in_history * NEARLY_NONE:
            reason = f"other customers: it has {in_both:,} of the {in_history:,} that are published"
            return Problem(name, reason, remedy=OTHER_CUSTOMERS)
        return Problem(name, f"rows that differ from history: {count:,}")

    def found_by(self, result: DbtRun, verdicts: Sequence[AuditResult]) -> Iterator[Problem]:
        """Yield the rows that the audits with these verdicts found."""
        for verdict in verdicts:
            yield from self._rows_of(result, verdict)

    def _rows_of(self, result: DbtRun, verdict: AuditResult) -> Iterator[Problem]:
        table = {table.name: table for table in self.tables}[verdict.table_name]
        files = self.files.get(table.name)
        audit = None if verdict.finding else audit_in(result, verdict.audit_id)
        if audit is None or files is None:
            reason = of_table(audit, verdict.failures)[0] if audit else verdict.finding or ""
            yield Problem(files.name if files else table.wanted, reason, audit=verdict.audit_name)
            return
        for node in result.bad:
            if (node.name, node.status) == (audit.audit_name, "error"):
                reason = f"the audit ended in an error: {' '.join(node.message.split())}"
                yield Problem(files.name, reason, audit=audit.audit_name)
                return
        for problem in failed_rows(self.connection, audit, verdict.failures, table, files, verdict.status):
            place = problem.file, problem.line
            if (*place, problem.column) not in self.told and (problem.value or (*place, None) not in self.told):
                yield problem

    def _still_telling(self, verdict: AuditResult, result: DbtRun, sound: set[str], mended: set[str]) -> bool:
        """Whether an audit's failure is meaningful although some files did not land and wrong values are null."""
        audit, table = audit_in(result, verdict.audit_id), verdict.table_name
        others = audit.reads - {table}
        if not others <= sound | mended or others & self.without_keys:
            return False
        measures_nulls = audit.test == "null_percent" or (table in self.without_keys and not audit.lists_rows)
        return table in sound or (table in mended and not measures_nulls)
