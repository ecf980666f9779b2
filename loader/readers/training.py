"""Training sets in a file: features as known on one date, labels as delivered on the same or a later date."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from loader.contract.customers import training_columns
from loader.contract.declared import columns_in_database
from loader.contract.model_check import model_faults, remedy_for
from loader.contract.tables import Table
from loader.database import Connection, statement
from loader.errors import WrongUsage
from loader.upkeep.parquet import appearing, copy_out, from_csv, require_pyarrow

VIEW, DATES, STAMP = "training_set", {"as_of", "label_as_of"}, "event_timestamp"
REMAKE = "streamflow dbt run --select training_set"


@dataclass(frozen=True)
class Written:
    """What was written: the two dates, the rows and columns, and the file; None for stdout."""

    as_of: dt.date
    label_as_of: dt.date
    rows: int
    columns: list[str]
    file: str | None


def write(
    connection: Connection,
    tables: Sequence[Table],
    as_of: dt.date,
    label_as_of: dt.date,
    columns: Sequence[str],
    file: Path | None,
) -> Written:
    """Stream a training set into a file, as CSV or Parquet by its suffix, or as CSV to stdout.

    Memory use does not grow with the number of rows. The file appears only when it is complete.

    Args:
        columns: the features and labels wanted, in this order; all of them if empty.

    Raises:
        WrongUsage: the label date is before the feature date, a column does not exist, the view is missing or out of
            step with the declaration, the file is a folder or its suffix neither .csv nor .parquet, or pyarrow is
            missing for .parquet.
    """
    if label_as_of < as_of:
        raise WrongUsage(f"a label of {label_as_of} is older than features of {as_of}: a model would predict the past.")
    suffix = file.suffix.lower() if file else ".csv"
    if suffix not in {".csv", ".parquet"}:
        raise WrongUsage(f"{file}: the name must end with .csv or .parquet, which says how to write it.")
    if file and file.is_dir():
        raise WrongUsage(f"{file} is a folder: name a file in it.")
    if suffix == ".parquet":
        require_pyarrow()
    types = _wanted(_columns(connection, tables), columns)
    query = statement(__file__, "rows").format(
        columns=sql.SQL(", ").join(map(_column, types, types.values())),
        as_of=sql.Literal(as_of),
        label_as_of=sql.Literal(label_as_of),
    )
    with connection.transaction():
        if file is None:
            rows = copy_out(connection, query, sys.stdout.buffer)
            sys.stdout.flush()
        else:
            with appearing(file) as path:
                with path.open("wb") as stream:
                    rows = copy_out(connection, query, stream)
                if suffix == ".parquet":
                    from_csv(path, types)
    return Written(as_of, label_as_of, rows, list(types), str(file) if file else None)


def _columns(connection: Connection, tables: Sequence[Table]) -> dict[str, str]:
    """Name -> type of the view's columns; raises WrongUsage if the view or its model is out of step."""
    lacking = [one for one in model_faults(tables) if one.path.stem == "training_set"]
    if lacking:
        raise WrongUsage(f"{lacking[0]}: {remedy_for(lacking)}, then `{REMAKE}`.")
    declared = [name for name, _, _ in training_columns(tables)]
    there = columns_in_database(connection, [VIEW]).get(VIEW, {})
    types = {name: data_type for name, data_type in there.items() if name not in DATES}
    if not types or [name for name in types if name in declared] != declared:
        raise WrongUsage(f"the view training_set is not there, or older than what is declared: `{REMAKE}` makes it.")
    return types


def _wanted(types: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    """Name -> type of the file's columns: the customer, event_timestamp, and the columns wanted."""
    first = list(types).index(STAMP) + 1
    always, known = list(types)[:first], list(types)[first:]
    if unknown := [name for name in columns if name not in types]:
        named = ", ".join(name or "an empty name" for name in unknown)
        raise WrongUsage(f"no such column: {named}. There are {', '.join(known)}.")
    return {name: types[name] for name in dict.fromkeys([*always, *(columns or known)])}


def _column(name: str, data_type: str) -> sql.Composed:
    """Write a boolean as true or false, which pandas, polars and Arrow read; COPY would write t or f."""
    return sql.SQL("{0}::text as {0}" if data_type == "boolean" else "{}").format(sql.Identifier(name))
