"""What the ledger knows about a month: its standing history, its row counts, and its audit verdicts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from loader.database import Connection, statement, value
from loader.delivery import Delivery
from loader.errors import FINISH, SurroundingsFailed, WrongUsage, reason
from loader.ledger.attempts import exists
from loader.words import printable


@dataclass(frozen=True)
class TableCounts:
    """How one delivery changed one table, in rows."""

    table: str
    delivered: int
    inserted: int
    updated: int
    unchanged: int
    carried_forward: int


@dataclass(frozen=True)
class TableHistory:
    """Complete history of one table and as_of; `content` is a hash of its files and of how they were read.

    `is_outdated` means that an earlier date arrived or was restated since: a restatement rebuilds this.
    """

    counts: TableCounts
    content: str | None
    is_outdated: bool


@dataclass(frozen=True)
class AuditResult:
    """The verdict of one audit on one load."""

    audit_id: str
    audit_name: str
    table_name: str
    column_name: str | None
    severity: str
    status: str
    failures: int
    finding: str | None


@dataclass(frozen=True)
class Waiver:
    """An audit that only warns on a load: who waived it, when and why."""

    audit_name: str
    reason: str
    waived_by: str
    waived_at: dt.datetime

    def __str__(self) -> str:
        when, why = f"{self.waived_at:%Y-%m-%d %H:%M} UTC", printable(self.reason)
        return f"{self.audit_name}, by {self.waived_by} on {when}: {why}"


@dataclass(frozen=True)
class Standing:
    """The state of one as_of: whether a month was ever published for it, and the folder in which it is archived.

    `load_id` and `month` are those of the publication that readers see; None without one, as in an unfinished
    restatement. `is_finished` means that no newer load is complete for the date, and that production has all of it.
    """

    was_published: bool
    archived_in: str | None
    load_id: int | None
    month: str | None
    is_finished: bool


def history_on(connection: Connection, as_of: dt.date, load_id: int | None = None) -> dict[str, TableHistory]:
    """Table name -> its history on a date, from loads whose history stands in all their tables.

    Args:
        load_id: the load whose inserted and updated rows are counted; rows of other loads count as unchanged.
    """
    rows = connection.execute(statement(__file__, "history_on"), {"load_id": load_id, "as_of": as_of})
    return {
        name: TableHistory(TableCounts(name, *counts), content, is_outdated)
        for name, *counts, content, is_outdated in rows.fetchall()
    }


def came_later(connection: Connection, tables: Sequence[str], as_of: dt.date) -> set[str]:
    """The tables whose file a delivery for this date may lack, because they were declared later."""
    if not exists(connection):
        return set()
    values = {"tables": list(tables), "as_of": as_of}
    return {name for (name,) in connection.execute(statement(__file__, "came_later"), values).fetchall()}


def require_same_date(connection: Connection, delivery: Delivery) -> None:
    """Require that month and as_of fit the months that are published, unless the caller gave as_of explicitly.

    Raises:
        WrongUsage: they do not fit; a month published with the wrong date could not be taken back.
    """
    if delivery.is_dated or not exists(connection):
        return
    month = {"month": delivery.label, "as_of": delivery.as_of}
    if before := connection.execute(statement(__file__, "other_date"), month).fetchone():
        raise WrongUsage(
            f"month {delivery.label} is published as of {before[0]}, but its date would now be {delivery.as_of}: set"
            f" STREAMFLOW_FIRST_MONTH back to what it was, or give --as-of {before[0]}. To publish it for both dates,"
            f" give --as-of {delivery.as_of}."
        )
    if other := connection.execute(statement(__file__, "other_first_month"), month).fetchone():
        raise WrongUsage(
            f"the date of month {delivery.label} would be {delivery.as_of}, but month {other[0]} is published as of"
            f" {other[1]}, which does not fit: set STREAMFLOW_FIRST_MONTH back to what it was, or give --as-of with the"
            f" date of month {delivery.label}."
        )


def left_to_build(connection: Connection, as_of: dt.date) -> list[str] | None:
    """The models and tests that failed below a published month; None if the last run failed or was cut off."""
    row = connection.execute(statement(__file__, "left_to_build"), [as_of]).fetchone()
    return row[0] if row else []


def standing(connection: Connection, as_of: dt.date) -> Standing:
    """The state of a date.

    Raises:
        SurroundingsFailed: a table that has history is gone; the message names it.
    """
    require_tables(connection)
    with connection.cursor(row_factory=class_row(Standing)) as cursor:
        return cursor.execute(statement(__file__, "standing"), {"as_of": as_of}).fetchall()[0]


def require_ingestible(standing: Standing, month: str, *, has_history: bool, restates: bool) -> None:
    """Require that the request can ingest the month.

    Raises:
        WrongUsage: the request restates a month that is not published.
        SurroundingsFailed: a restatement of the month was cut off, and only --restate can finish it.
    """
    if restates and not standing.was_published:
        raise WrongUsage(f"month {month} is not published: ingest it without --restate.")
    if standing.was_published and not has_history and not restates:
        raise SurroundingsFailed(
            f"month {month} was being restated when a run was cut off. To finish, ingest it again with --restate. To go"
            f" back to what was published, run `streamflow abandon {month}`; ingesting another month does that too."
        )


def require_here(standing: Standing, as_of: dt.date) -> None:
    """Require that history of a date is in the database, to compare files with it; WrongUsage if it is archived."""
    if standing.archived_in:
        raise WrongUsage(
            f"the history of {as_of} is archived in {standing.archived_in}, so these files cannot be compared with it:"
            f" first run `streamflow archive --restore {as_of}`."
        )


def require_months_before(connection: Connection) -> None:
    """Require that the months on which the one in staging is built are here; SurroundingsFailed if one is archived."""
    try:
        connection.execute("select ops.require_months_before(table_name, as_of) from ops.to_build")
    except psycopg.errors.RaiseException as error:
        raise SurroundingsFailed(reason(error)) from None


def require_tables(connection: Connection) -> None:
    """Require that every table with history exists.

    Raises:
        SurroundingsFailed: a table is gone; the message names it.
    """
    gone = [name for (name,) in connection.execute(statement(__file__, "gone")).fetchall()]
    if gone:
        is_history = any(name.endswith("_snapshots") for name in gone)
        remedy = "restore the database from a backup" if is_history else f"run `{FINISH}`: it rebuilds production"
        raise SurroundingsFailed(f"the ledger knows tables that are gone: {', '.join(gone)}. To go on, {remedy}.")


def is_unaudited(connection: Connection, as_of: dt.date) -> bool:
    """Whether staging still holds a load of that date whose audits have passed but have no verdicts in the ledger."""
    connection.execute("select ops.load_in_staging()")
    return bool(value(connection, statement(__file__, "is_unaudited"), [as_of]))


def audits_of(connection: Connection, load_id: int) -> list[AuditResult]:
    """The verdicts on a load, worst first."""
    with connection.cursor(row_factory=class_row(AuditResult)) as cursor:
        return cursor.execute(statement(__file__, "audits"), [load_id]).fetchall()


def waivers_of(connection: Connection, load_id: int) -> list[Waiver]:
    """The audits that only warn on a load."""
    with connection.cursor(row_factory=class_row(Waiver)) as cursor:
        return cursor.execute(statement(__file__, "waivers"), [load_id]).fetchall()
