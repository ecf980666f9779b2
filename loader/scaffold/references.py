"""Find which tables refer to which, from the names and values of columns in one month of files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from psycopg import sql

from loader.contract.names import OF_ANY_TABLE
from loader.database import Connection, statement, value

if TYPE_CHECKING:
    from loader.scaffold.propose import ColumnSeen, TableSeen

    Candidate = tuple[int, int, TableSeen, ColumnSeen, TableSeen]
    """The rank, 0 being the likeliest; minus the owner's rows; a table, its column, and the owner that it may name."""

GUESSED = 2
"""From this rank on, a reference is guessed from a similar name or from values, and a note says so."""


def find_references(connection: Connection, tables: Sequence[TableSeen]) -> None:
    """Set which table each table refers to: by a column named like the key there, or else by a column's values."""
    owners = _owners(tables)
    candidates = [candidate for table in tables for candidate in _candidates(table, owners)]
    for likelihood, _, table, column, owner in sorted(candidates, key=lambda one: one[:2]):
        is_free = table.references is None and table.name not in _path(owner, tables)
        if is_free and _is_known(connection, table, column.name, owner):
            table.references, table.refers_by, table.refers_to = owner.name, column.name, owner.key[0]
            if likelihood >= GUESSED:
                table.notes.append(
                    f"{table.name}.{column.name} is proposed as a reference to {owner.name}, because all its values"
                    f" occur in {owner.name}.{owner.key[0]}: remove it if it is not a reference"
                )


def _owners(tables: Sequence[TableSeen]) -> dict[str, TableSeen]:
    """Key column, or `TABLE.` for a key like `id` -> the table that has it and is named like it, or has most rows."""
    owners: dict[str, TableSeen] = {}
    for table in tables:
        if len(table.key) == 1:
            name = f"{table.name}." if table.key[0] in OF_ANY_TABLE else table.key[0]
            owners[name] = max(owners.get(name, table), table, key=_is_owner)
    return owners


def _is_owner(table: TableSeen) -> tuple[bool, int]:
    stem = re.sub(r"_(id|no|code|key)$", "", table.key[0])
    return table.name.rstrip("s").endswith(stem.rstrip("s")), table.rows


def _candidates(table: TableSeen, owners: dict[str, TableSeen]) -> Iterator[Candidate]:
    """Columns that may refer to other tables: named like the key there, or nearly so, or with many different texts.

    An `id` of numbers refers to no other table; `customer_id` refers to customers. Numbers in a column with an
    unrelated name do not count, as small numbers occur among any keys.
    """
    for owner in owners.values():
        key = owner.column(owner.key[0])
        for column in table.columns if owner is not table else ():
            likelihood = _likelihood(table, column, owner, key) if column.data_type == key.data_type else None
            if likelihood is not None:
                yield likelihood, -owner.rows, table, column, owner


def _likelihood(table: TableSeen, column: ColumnSeen, owner: TableSeen, key: ColumnSeen) -> int | None:
    """The rank of a column that may refer to the owner, 0 being the likeliest; None if it does not."""
    if key.name in OF_ANY_TABLE:
        names = {owner.name, owner.name.rstrip("s"), re.sub("ies$", "y", owner.name)}
        is_by_chance = column.data_type != "text" or column.few_values is not None
        if column.name in {f"{name}_{key.name}" for name in names}:
            return 0
        if column.name == key.name and is_by_chance:
            return None
    if column.name == key.name:
        return int(column.name not in table.key)
    return None if _is_own_key(table, column, owner) else _guessed(column, owner, key)


def _is_own_key(table: TableSeen, column: ColumnSeen, owner: TableSeen) -> bool:
    return column.different <= 1 or (table.key == (column.name,) and _is_owner(owner) <= _is_owner(table))


def _guessed(column: ColumnSeen, owner: TableSeen, key: ColumnSeen) -> int | None:
    if column.name[:3] in {owner.name[:3], key.name[:3]}:
        return GUESSED
    return GUESSED + 1 if column.data_type == "text" and column.few_values is None else None


def _is_known(connection: Connection, table: TableSeen, column: str, owner: TableSeen) -> bool:
    """Whether all values of a column are keys of the owner."""
    names = {"table": table.name, "column": column, "other": owner.name, "key": owner.key[0]}
    query = statement(__file__, "known").format(**{part: sql.Identifier(name) for part, name in names.items()})
    return bool(value(connection, query))


def _path(table: TableSeen | None, tables: Sequence[TableSeen]) -> Iterator[str]:
    """A table, the one that it references, and so on."""
    while table is not None:
        yield table.name
        table = next((other for other in tables if other.name == table.references), None)
