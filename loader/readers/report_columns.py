"""What a month and the one before it delivered in each column: profiles, and counts in bins that both share."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from loader.contract.tables import Column, Table
from loader.database import Connection, one_row, statement
from loader.readers.lookups import about, columns_in_history

WATCH, ALERT = 0.1, 0.25
"""PSI thresholds: from WATCH a distribution has moved, from ALERT it has moved a lot."""
FLOOR = 0.0001
QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.95]
DECILES = [tenth / 10 for tenth in range(1, 10)]
AS_NUMBER = {
    "date": sql.SQL("({} - date '1970-01-01')::double precision"),
    "boolean": sql.SQL("{}::int::double precision"),
    "text": sql.SQL("null::double precision"),
}
"""Type -> SQL that turns its values into numbers; values of other types are numbers already."""
Json = dict[str, Any]


@dataclass(frozen=True)
class ColumnReport:
    """What the report says about one column: its profile in both months, how many rows changed, and shared bins.

    Means, quantiles and bounds are numbers: a date is its days since 1970, a boolean is 0 or 1, a text has none.
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
        """How far the distribution has moved: alert, watch or calm; `none` if there is nothing to compare."""
        if self.psi is None:
            return "none"
        return "alert" if self.psi >= ALERT else "watch" if self.psi >= WATCH else "calm"


def psi(before: Sequence[int], now: Sequence[int]) -> float | None:
    """The population stability index of two sets of counts over the same bins; None if one month has no rows.

    PSI = sum over the bins of (now - before) * ln(now / before), each the bin's share of its month: the symmetrised
    Kullback-Leibler divergence, after S. Kullback and R. A. Leibler, On Information and Sufficiency, Annals of
    Mathematical Statistics 22 (1951), eq. 2.6; as an index with the thresholds 0.1 and 0.25 in N. Siddiqi, Credit Risk
    Scorecards (2006). An empty bin would make it infinite, so it counts as a share of FLOOR.
    """
    rows_before, rows_now = sum(before), sum(now)
    if not rows_before or not rows_now:
        return None
    shares = [(max(b / rows_before, FLOOR), max(n / rows_now, FLOOR)) for b, n in zip(before, now, strict=True)]
    return sum((n - b) * math.log(n / b) for b, n in shares)


def read_columns(
    connection: Connection, table: Table, as_of: dt.date, previous: dt.date | None, changes: Mapping[str, Json]
) -> list[ColumnReport]:
    """Reports on the columns of one table, in the order of declaration; empty if the date delivered no rows.

    Args:
        previous: the previous published date; None for the first.
        changes: column -> how many rows were compared with `previous`, and in how many its value changed.
    """
    there = columns_in_history(connection, table)
    columns = [column for column in table.columns if column.name in there and column.name not in table.key]
    now = _profiles(connection, table, columns, as_of)
    before = _profiles(connection, table, columns, previous) if previous else {}
    bins = _bins(connection, table, columns, (previous, as_of), before) if now and before and previous else {}
    found = []
    for name, profile in now.items():
        rows_before, rows_now = ([each[f"rows_{when}"] for each in bins.get(name, [])] for when in ("before", "now"))
        index = psi(rows_before, rows_now)
        found.append(ColumnReport(profile, before.get(name), changes.get(name), bins.get(name, []), index))
    return found


def _profiles(connection: Connection, table: Table, columns: Sequence[Column], as_of: dt.date) -> dict[str, Json]:
    """Column -> the profile of what the date delivered; empty if it delivered no rows."""
    if not columns:
        return {}
    query = about(__file__, table, "profile", columns=_listed(map(_profile, columns)), as_of=sql.Literal(as_of))
    rows, *found = one_row(connection, query)
    return {
        column.name: {
            "table_name": table.name,
            "column_name": column.name,
            "data_type": column.data_type,
            "delivered_rows": rows,
            "null_share": profile["null_rows"] / rows,
            **profile,
        }
        for column, profile in zip(columns, found, strict=True)
        if rows
    }


def _profile(column: Column) -> sql.Composable:
    shares = {"quantiles": sql.Literal(QUANTILES), "deciles": sql.Literal(DECILES)}
    parts = {"column": sql.Identifier(column.name), "value": _number(column), **shares}
    return statement(__file__, "number_profile" if _is_number(column) else "category_profile").format(**parts)


def _bins(
    connection: Connection,
    table: Table,
    columns: Sequence[Column],
    dates: tuple[dt.date, dt.date],
    before: Mapping[str, Json],
) -> dict[str, list[Json]]:
    """Column -> its bins in order. A bin holds values above its `lower_bound`, up to its `upper_bound`."""
    each = [(column, sql.Identifier(f"value_{place}")) for place, column in enumerate(columns)]
    deciles = {name: profile["deciles"] or [] for name, profile in before.items()}
    query = about(
        __file__,
        table,
        "bins",
        previous=sql.Literal(dates[0]),
        as_of=sql.Literal(dates[1]),
        values=_listed(
            sql.SQL("{} as {}").format(_binned(column, deciles[column.name]), name) for column, name in each
        ),
        column_name=sql.SQL(" ").join(
            sql.SQL("when grouping({}) = 0 then {}").format(name, sql.Literal(column.name)) for column, name in each
        ),
        numbers=_listed([sql.SQL("null::int"), *(name for column, name in each if _is_number(column))]),
        categories=_listed(
            [sql.NULL, *(sql.SQL("{}::text").format(name) for column, name in each if not _is_number(column))]
        ),
        sets=_listed(sql.SQL("({})").format(name) for _, name in each),
    )
    rows = connection.cursor(row_factory=dict_row).execute(query).fetchall()
    return {
        name: _bounded(list(found), deciles[name]) for name, found in groupby(rows, lambda row: row.pop("column_name"))
    }


def _binned(column: Column, deciles: Sequence[float]) -> sql.Composable:
    if not _is_number(column):
        return sql.Identifier(column.name)
    cuts = sql.Literal([-float(decile) for decile in reversed(deciles)])
    return statement(__file__, "decile").format(value=_number(column), cuts=cuts)


def _bounded(bins: list[Json], deciles: Sequence[float]) -> list[Json]:
    bounds = [deciles[found["bin"] - 1] if deciles and (found["bin"] or 10) < 10 else None for found in bins]
    below = [None, *bounds]
    return [
        {**found, "lower_bound": lower if found["bin"] else None, "upper_bound": upper}
        for found, lower, upper in zip(bins, below, bounds, strict=False)
    ]


def _number(column: Column) -> sql.Composable:
    written = AS_NUMBER.get(column.data_type, sql.SQL("{}::double precision"))
    return written.format(sql.Identifier(column.name))


def _is_number(column: Column) -> bool:
    return column.data_type not in {"text", "boolean"}


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
