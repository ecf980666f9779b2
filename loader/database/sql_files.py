"""SQL from the .sql file beside the module that runs it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from psycopg import sql
from psycopg.rows import TupleRow

from loader.database.connect import Connection
from loader.errors import SurroundingsFailed


def statement(module: str, name: str) -> sql.SQL:
    """The SQL below the line `-- name: NAME` in the module's .sql file, to run or to format.

    Args:
        module: the module's `__file__`.
    """
    return sql.SQL(_statements(Path(module).with_suffix(".sql"))[name])


@cache
def _statements(path: Path) -> dict[str, str]:
    _, *parts = re.split(r"^-- name: (\w+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.strip().removesuffix(";") for name, text in zip(parts[::2], parts[1::2], strict=True)}


Query = str | sql.SQL | sql.Composed
Values = Sequence[object] | Mapping[str, object]


def identifiers(names: Iterable[str]) -> sql.Composed:
    """Names, quoted and with commas between them, as in a list of columns."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def value(connection: Connection, query: Query, values: Values = ()) -> Any:
    """The first value of the only row of a query; SurroundingsFailed if there is none."""
    return one_row(connection, query, values)[0]


def one_row(connection: Connection, query: Query, values: Values = ()) -> TupleRow:
    """The only row of a query; SurroundingsFailed if there is none."""
    row = connection.execute(query, values or None).fetchone()  # without values, psycopg leaves a % as it is
    if row is None:
        raise SurroundingsFailed("the ledger lacks a row that was there: was ops changed by hand?")
    return row
