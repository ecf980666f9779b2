"""Which tables refer to which, found in the values of one month of files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from psycopg import sql

from loader.database import Connection, statement

if TYPE_CHECKING:
    from loader.scaffold.propose import ColumnSeen, TableSeen


def find_references(connection: Connection, tables: Sequence[TableSeen]) -> None:
    """Say of each table which other one it refers to: by the name of its key, or else by what a column holds."""
    owners = _owners(tables)
    for candidates in (_called_alike, _guessed):
        for table in tables:
            for column, owner in candidates(table, owners) if table.references is None else ():
                if table.name not in _path(owner, tables) and _is_known(connection, table, column.name, owner):
                    table.references, table.refers_by, table.refers_to = owner.name, column.name, owner.key[0]
                    if candidates is _guessed:
                        table.notes.append(
                            f"{table.name}.{column.name} is taken for a reference to {owner.name}, whose {owner.key[0]}"
                            " has all its values: take it out if it is none"
                        )
                    break


def _owners(tables: Sequence[TableSeen]) -> dict[str, TableSeen]:
    """Per key of one column the table that others refer to: that which is called like it, or has most rows."""
    owners: dict[str, TableSeen] = {}
    for table in tables:
        if len(table.key) == 1:
            owners[table.key[0]] = max(owners.get(table.key[0], table), table, key=_is_owner)
    return owners


def _is_owner(table: TableSeen) -> tuple[bool, int]:
    stem = re.sub(r"_(id|no|code|key)$", "", table.key[0])
    return table.name.rstrip("s").endswith(stem.rstrip("s")), table.rows


def _called_alike(table: TableSeen, owners: dict[str, TableSeen]) -> list[tuple[ColumnSeen, TableSeen]]:
    """Columns that are called as the key of another table, those of this table's key first."""
    found = [(column, owners[column.name]) for column in table.columns if column.name in owners]
    found.sort(key=lambda one: one[0].name not in table.key)
    return [(column, owner) for column, owner in found if column.data_type == owner.column(column.name).data_type]


def _guessed(table: TableSeen, owners: dict[str, TableSeen]) -> list[tuple[ColumnSeen, TableSeen]]:
    """Columns that may name rows of other tables, the likeliest first: called like these, or of many texts.

    Small numbers are found among any keys, so of numbers those that are called otherwise are none.
    """
    found = []
    for owner in owners.values():
        key = owner.column(owner.key[0])
        for column in table.columns:
            is_called_so = column.name[:3] in {owner.name[:3], key.name[:3]}
            is_likely = is_called_so or (column.data_type == "text" and column.few_values is None)
            is_own_key = table.key == (column.name,) and _is_owner(owner) <= _is_owner(table)
            may_be = owner is not table and column.data_type == key.data_type and column.different > 1
            if may_be and is_likely and not is_own_key:
                found.append((not is_called_so, -owner.rows, column, owner))
    return [(column, owner) for _, _, column, owner in sorted(found, key=lambda one: one[:2])]


def _is_known(connection: Connection, table: TableSeen, column: str, owner: TableSeen) -> bool:
    """Whether all values of a column are keys of the owner."""
    names = {"table": table.name, "column": column, "other": owner.name, "key": owner.key[0]}
    query = statement(__file__, "known").format(**{part: sql.Identifier(name) for part, name in names.items()})
    return connection.execute(query).fetchone() == (True,)


def _path(table: TableSeen | None, tables: Sequence[TableSeen]) -> Iterator[str]:
    """A table, the one that it references, and so on."""
    while table is not None:
        yield table.name
        table = next((other for other in tables if other.name == table.references), None)
