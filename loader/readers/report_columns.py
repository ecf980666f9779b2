"""What a month and the month before it delivered in each column of a table: profiles, and the same bins for both."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from loader.contract.tables import Column, Table
from loader.database import Connection, statement
from loader.readers.lookups import columns_in_history

WATCH, ALERT = 0.1, 0.25
"""PSI from which a distribution is said to have moved, and to have moved a lot."""
AS_NUMBER = {
    "date": sql.SQL("({} - date '1970-01-01')::double precision"),
    "boolean": sql.SQL("{}::int::double precision"),
    "text": sql.SQL("null::double precision"),
}
"""Type -> SQL for a value of it as a number, where that is not just the value."""
Json = dict[str, Any]


@dataclass(frozen=True)
class ColumnReport:
    """All that is said of one column: its profile in both months, how many rows changed, and the bins of both.

    Numbers are means, quantiles and bounds of values: a date as days since 1970, a boolean as 0 or 1, a text as none.
    """

    now: Json
    before: Json | None
    changes: Json | None
    bins: list[Json]
    psi: float | None

    @property
    def name(self) -> str:
        """table.column."""
        return f"{self.now['table_name']}.{self.now['column_name']}"

    @property
    def level(self) -> str:
        """How far the distribution has moved: alert, watch, calm; none where nothing can be compared."""
        if self.psi is None:
            return "none"
        return "alert" if self.psi >= ALERT else "watch" if self.psi >= WATCH else "calm"


def psi(before: Sequence[int], now: Sequence[int], floor: float = 0.0001) -> float | None:
    """The population stability index of two counts over the same bins; None where one month has no rows.

    PSI = sum over the bins of (now - before) * ln(now / before), each the bin's share of its month: the symmetrised
    Kullback-Leibler divergence, after S. Kullback and R. A. Leibler, On Information and Sufficiency, Annals of
    Mathematical Statistics 22 (1951), eq. 2.6; as an index with the thresholds 0.1 and 0.25 in N. Siddiqi, Credit Risk
    Scorecards (2006). An empty bin would make it infinite: it counts as a share of `floor`.
    """
    rows_before, rows_now = sum(before), sum(now)
    if not rows_before or not rows_now:
        return None
    shares = [(max(b / rows_before, floor), max(n / rows_now, floor)) for b, n in zip(before, now, strict=True)]
    return sum((n - b) * math.log(n / b) for b, n in shares)


def read_columns(
    connection: Connection, table: Table, as_of: dt.date, previous: dt.date | None, changes: Mapping[str, Json]
) -> list[ColumnReport]:
    """Of one table, in the order of declaration; none where the date delivered none of it.

    Args:
        previous: the published date before; None for the first.
        changes: of each column, in how many rows its value is another one than on that date.
    """
    there = columns_in_history(connection, table)
    columns = [column for column in table.columns if column.name in there and column.name not in table.key]
    each = (_read(connection, table, column, as_of, previous, changes.get(column.name)) for column in columns)
    return [report for report in each if report]


def _read(
    connection: Connection,
    table: Table,
    column: Column,
    as_of: dt.date,
    previous: dt.date | None,
    changes: Json | None,
) -> ColumnReport | None:
    name = sql.Identifier(column.name)
    number = AS_NUMBER.get(column.data_type, sql.SQL("{}::double precision")).format(name)
    is_number = column.data_type not in {"text", "boolean"}
    parts = {
        "history": sql.Identifier("public", f"{table.name}_snapshots"),
        "column": name,
        "number": number,
        "binned": number if is_number else sql.SQL("null::double precision"),
        "category": sql.SQL("null::text" if is_number else "{}::text").format(name),
    }

    def rows(query: str, **dates: object) -> list[Json]:
        known = {**parts, **{which: sql.Literal(value) for which, value in dates.items()}}
        return connection.cursor(row_factory=dict_row).execute(statement(__file__, query).format(**known)).fetchall()

    def profile(date: dt.date) -> Json | None:
        [found] = rows("profile", as_of=date)
        about = {"table_name": table.name, "column_name": column.name, "data_type": column.data_type}
        return {**about, **found} if found["delivered_rows"] else None

    now, before = profile(as_of), profile(previous) if previous else None
    if now is None:
        return None
    bins = rows("bins", as_of=as_of, previous=previous, deciles=before["deciles"]) if before else []
    index = psi([each["rows_before"] for each in bins], [each["rows_now"] for each in bins])
    return ColumnReport(now, before, changes, bins, index)
