"""What the ledger knows of a month: what stands of it, its rows, the verdicts of its audits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from loader.database import Connection, one_row, statement
from loader.delivery import Delivery
from loader.errors import FINISH, SurroundingsFailed, WrongUsage
from loader.ledger.attempts import exists


@dataclass(frozen=True)
class TableCounts:
    """What one delivery meant for one table, in rows."""

    table: str
    delivered: int
    inserted: int
    updated: int
    unchanged: int
    carried_forward: int


@dataclass(frozen=True)
class TableHistory:
    """Complete history of one table on one as_of, and what tells the rows of its files from others."""

    counts: TableCounts
    content: str | None


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
    """An audit that was to warn only on a load: who said so, when and why."""

    audit_name: str
    reason: str
    waived_by: str
    waived_at: dt.datetime

    def __str__(self) -> str:
        return f"{self.audit_name}, by {self.waived_by} on {self.waived_at:%Y-%m-%d %H:%M} UTC: {self.reason}"


@dataclass(frozen=True)
class Standing:
    """What stands for a date: whether a month was ever published for it, and the folder in which it is archived.

    `load_id` is what readers see, and `month` as it was asked for; none where a part of it is being replaced. It is
    finished where nothing newer stands for the date, and production has taken all of it in.
    """

    was_published: bool
    archived_in: str | None
    load_id: int | None
    month: str | None
    is_finished: bool


def history_on(connection: Connection, as_of: dt.date, load_id: int | None = None) -> dict[str, TableHistory]:
    """Table name -> its history on that date, of loads whose history stands in all their tables.

    Args:
        load_id: of whom what was inserted and updated is counted; what others have built has changed nothing.
    """
    rows = connection.execute(statement(__file__, "history_on"), {"load_id": load_id, "as_of": as_of})
    return {counts[0]: TableHistory(TableCounts(*counts), content) for *counts, content in rows.fetchall()}


def came_later(connection: Connection, tables: Sequence[str], as_of: dt.date) -> set[str]:
    """The tables of which a delivery may lack the file: they came later than its date."""
    if not exists(connection):
        return set()
    values = {"tables": list(tables), "as_of": as_of}
    return {name for (name,) in connection.execute(statement(__file__, "came_later"), values).fetchall()}


def require_same_date(connection: Connection, delivery: Delivery) -> None:
    """Go on only where the month is of the date that it was published for, unless another one was asked for.

    Raises:
        WrongUsage: it is not; what was published with the wrong date could not be taken back.
    """
    if delivery.is_dated or not exists(connection):
        return
    month = {"month": delivery.label, "as_of": delivery.as_of}
    if before := connection.execute(statement(__file__, "other_date"), month).fetchone():
        raise WrongUsage(
            f"month {delivery.label} is published as of {before[0]}, and would be of {delivery.as_of} now: give --as-of"
            f" {before[0]}, or set STREAMFLOW_FIRST_MONTH to what it was. To have both, give --as-of {delivery.as_of}."
        )
    if other := connection.execute(statement(__file__, "other_first_month"), month).fetchone():
        raise WrongUsage(
            f"month {delivery.label} would be of {delivery.as_of}, and month {other[0]} is published as of {other[1]}:"
            f" set STREAMFLOW_FIRST_MONTH to what it was, or give --as-of with the date that {delivery.label} is of."
        )


def left_to_build(connection: Connection, as_of: dt.date) -> list[str] | None:
    """The models and tests that failed below a published month; None after a run that was cut off: it may be any."""
    row = connection.execute(statement(__file__, "left_to_build"), [as_of]).fetchone()
    return row[0] if row else []


def standing(connection: Connection, as_of: dt.date) -> Standing:
    """What stands for a date.

    Raises:
        SurroundingsFailed: a table that has history is gone; the message names it.
    """
    require_tables(connection)
    with connection.cursor(row_factory=class_row(Standing)) as cursor:
        return cursor.execute(statement(__file__, "standing"), {"as_of": as_of}).fetchall()[0]


def require_ingestible(standing: Standing, month: str, *, has_history: bool, restates: bool) -> None:
    """Go on only where a month can be ingested so.

    Raises:
        WrongUsage: it is to be restated, and is not published.
        SurroundingsFailed: a restatement was cut off, which this would not finish.
    """
    if restates and not standing.was_published:
        raise WrongUsage(f"month {month} is not published: ingest it without --restate.")
    if standing.was_published and not has_history and not restates:
        raise SurroundingsFailed(
            f"month {month} was being restated when a run was cut off. To ingest it with --restate finishes that."
            f" `streamflow abandon {month}` brings back what was published; so does ingesting another month."
        )


def require_tables(connection: Connection) -> None:
    """Go on only where every table that has history is there.

    Raises:
        SurroundingsFailed: one is gone; the message names it.
    """
    gone = [name for (name,) in connection.execute(statement(__file__, "gone")).fetchall()]
    if gone:
        is_history = any(name.endswith("_snapshots") for name in gone)
        remedy = (
            "restore the database from a backup" if is_history else f"`{FINISH}` makes production anew from history"
        )
        raise SurroundingsFailed(f"the ledger knows tables that are gone: {', '.join(gone)}. To go on, {remedy}.")


def is_unaudited(connection: Connection, as_of: dt.date) -> bool:
    """Whether staging still holds a load of that date whose audits have passed and are not entered."""
    connection.execute("select ops.load_in_staging()")
    return bool(one_row(connection, statement(__file__, "is_unaudited"), [as_of])[0])


def audits_of(connection: Connection, load_id: int) -> list[AuditResult]:
    """The verdicts on a load, worst first."""
    with connection.cursor(row_factory=class_row(AuditResult)) as cursor:
        return cursor.execute(statement(__file__, "audits"), [load_id]).fetchall()


def waivers_of(connection: Connection, load_id: int) -> list[Waiver]:
    """The audits that were to warn only on a load."""
    with connection.cursor(row_factory=class_row(Waiver)) as cursor:
        return cursor.execute(statement(__file__, "waivers"), [load_id]).fetchall()
