"""All that is wrong with a month that is refused: files, values, and the rows that audits found."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from loader.contract.tables import Table
from loader.delivery import Problem
from loader.landing import LandedFile, Landing, NotTaken, diagnose
from loader.pipeline import compare, ledger
from loader.pipeline.dbt import DbtRun
from loader.pipeline.failed_audits import failed_rows
from loader.pipeline.ledger import AuditResult

if TYPE_CHECKING:
    from loader.pipeline.run import Run


def rows_found(run: Run, result: DbtRun, verdicts: Sequence[AuditResult], status: str) -> Iterator[Problem]:
    """The rows that the audits with that verdict found."""
    for verdict in verdicts:
        if verdict.status == status:
            yield from _rows_of(run, result, verdict)


def everything_wrong(run: Run, problems: list[Problem], landing: Landing) -> Iterator[Problem]:
    """What is wrong with files and with values, and then what the audits say of everything else."""
    yield from problems
    yield from landing.problems
    read_whole = yield from wrong_values(run, landing.not_taken)
    mended = [LandedFile(stopped.table.name, stopped.problem.file, "", 0, 0) for stopped in landing.not_taken]
    if not read_whole or not (landing.files or mended):
        return
    ledger.mark_refused(run.connection, run.load_id)
    ledger.set_staged(run.connection, run.load_id, run.delivery, [*landing.files, *mended])
    result = run.audit()
    ledger.clear_staged(run.connection)
    sound = {file.table for file in landing.files}
    for verdict in ledger.audits_of(run.connection, run.load_id):
        if verdict.status == "fail" and _still_telling(run, verdict, result, sound, {m.table for m in mended}):
            yield from _rows_of(run, result, verdict)


def wrong_values(run: Run, not_taken: Sequence[NotTaken]) -> Generator[Problem, None, bool]:
    """All wrong values of the files that were not taken; returns whether the files could be read to their ends."""
    if not_taken:
        run.progress.step("looking for everything that is wrong")
    read_whole = True
    for stopped in not_taken:
        file = run.files[stopped.table.name]
        read_whole &= yield from diagnose(run.database, run.delivery, stopped.table, file, stopped)
    return read_whole


def other_rows(run: Run, differing: Sequence[Table]) -> Iterator[Problem]:
    """The landed files that hold other rows than history has from that date, with the number of customers."""
    for table in differing:
        if count := compare.rows_that_differ(run.connection, table, run.delivery):
            yield Problem(run.files[table.name].name, f"rows that differ from what is published: {count:,}")


def _rows_of(run: Run, result: DbtRun, verdict: AuditResult) -> Iterator[Problem]:
    table = next(table for table in run.tables if table.name == verdict.table_name)
    audit = result.audits[verdict.audit_id]
    return failed_rows(run.connection, audit, verdict.failures, table, run.files[table.name])


def _still_telling(run: Run, verdict: AuditResult, result: DbtRun, sound: set[str], mended: set[str]) -> bool:
    """Whether an audit's failure says something new where some files are missing, and wrong values are null."""
    audit = result.audits[verdict.audit_id]
    if audit.others and not all(table.name in sound | mended for table in run.tables):
        return False
    return verdict.table_name in sound or (verdict.table_name in mended and audit.test != "null_percent")
