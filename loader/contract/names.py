"""Which names declared tables and columns may have, so that no name made from them is taken, reserved or too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints

from loader.project import model_files

if TYPE_CHECKING:
    from loader.contract.tables import Table

LONGEST = 63
"""Bytes of a name; PostgreSQL truncates longer ones."""

TableName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,39}$")]
"""Short enough for the name of a restated partition, `TABLE_YYYY_MM_DD_load_ID`, up to a million loads."""
ColumnName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,47}$")]

SQL_WORDS = frozenset(
    """all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate
    collation column concurrently constraint create cross current_catalog current_date current_role current_schema
    current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch
    for foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral
    leading left like limit localtime localtimestamp natural not notnull null offset on only or order outer
    overlaps placing primary references returning right select session_user similar some symmetric system_user
    table tablesample then to trailing true union unique user using variadic verbose when where window with""".split()  # noqa: SIM905
)
"""Words that PostgreSQL accepts as column names only in quotes (appendix C of its manual)."""

OWN_COLUMNS = frozenset(
    """as_of observed_as_of label_as_of event_timestamp valid_from valid_to is_current position_in_file
    delivered delivered_before tableoid xmin cmin xmax cmax ctid""".split()  # noqa: SIM905
)
"""Columns that streamflow or PostgreSQL adds to tables and views."""

OF_ANY_TABLE = frozenset("id key code no nr number".split())  # noqa: SIM905
"""Generic names of keys, which tables of different things share."""

IN_TRAINING_SET = {"training_set", "feature_dates", "label_dates"}
"""A model that `new` writes after its names are checked, and what that model calls the dates beside the tables."""

MODELS_OF_TABLES = {"history", "production", "latest"}
"""Folders of the models that `streamflow models` writes for each declared table."""


def in_sql(name: str) -> str:
    """A column's name for SQL, in quotes if it is reserved: `user` without quotes is the connected role."""
    return f'"{name}"' if name in SQL_WORDS else name


def names_of_models() -> set[str]:
    """Names that no table may have: those of models that are not of one declared table, and those used in one."""
    others = {path.stem for path in model_files() if path.parent.name not in MODELS_OF_TABLES}
    return others | IN_TRAINING_SET


def taken(tables: Sequence[Table]) -> Iterator[str]:
    """Why valid tables cannot be declared together: a sentence for each name that is taken or too long."""
    models = Counter(names_of_models())
    columns = Counter[str]()
    for table in tables:
        models.update([table.name, f"{table.name}_snapshots", f"{table.name}_scd2", f"latest_{table.name}"])
        columns.update(set(table.column_names).difference(table.key))
    for table in tables:
        if models[table.name] > 1:
            yield f"table {table.name}: {table.name} is the name of another model, or used in one"
    for table in tables:
        for column in table.column_names:
            name = f"{table.name}_{column}"
            if columns[column] > 1 and len(name) > LONGEST:
                yield f"table {table.name}: {name}, as the training set calls it, is longer than {LONGEST} characters"
