"""Training sets: features as they were known on one date, labels as they were delivered on a later one, in a file."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TextIO

import psycopg
from psycopg import sql

from loader.contract.models import training_columns
from loader.contract.tables import Table
from loader.database.connect import Connection
from loader.errors import SurroundingsFailed, WrongUsage
from loader.readers.published import require_published

Format = Literal["csv", "parquet"]

TRUTH = sql.SQL("case when {column} then 'true' when not {column} then 'false' end as {column}")
"""The words that pandas, polars and Arrow read as truth values; PostgreSQL writes t and f."""


@dataclass(frozen=True)
class Field:
    """One column of the file: its name, and its type in the contract."""

    name: str
    data_type: str


@dataclass(frozen=True)
class TrainingSet:
    """What is wanted: both dates and the columns, in the order of the file."""

    as_of: dt.date
    label_as_of: dt.date
    fields: list[Field]


@dataclass(frozen=True)
class Written:
    """What has been written: rows, and where to; None for stdout."""

    as_of: dt.date
    label_as_of: dt.date
    rows: int
    columns: list[str]
    file: str | None


def training_set(
    connection: Connection, tables: Sequence[Table], as_of: dt.date, label_as_of: dt.date, columns: Sequence[str] = ()
) -> TrainingSet:
    """Check what is asked for.

    Args:
        columns: the features and labels wanted, in this order; all of them where none is named.

    Raises:
        WrongUsage: the label would be from before the features, a date is not published, or a column is not there.
    """
    if label_as_of < as_of:
        raise WrongUsage(f"a label of {label_as_of} is older than features of {as_of}: a model would predict the past.")
    require_published(connection, [as_of, label_as_of])
    key = Field(tables[0].primary_key, "text")
    known = {name: Field(name, column.data_type) for name, _, column in training_columns(tables)}
    if unknown := [name for name in columns if name not in known]:
        raise WrongUsage(f"no such column: {', '.join(unknown)}. There are {', '.join(known)}.")
    wanted = [known[name] for name in dict.fromkeys(columns)] if columns else list(known.values())
    return TrainingSet(as_of, label_as_of, [key, Field("event_timestamp", "timestamp"), *wanted])


def write(connection: Connection, wanted: TrainingSet, file: Path | None, stdout: TextIO) -> Written:
    """Stream a training set into a file, the format being that of its name, or as CSV to stdout.

    Memory does not grow with the number of rows. The file appears when it is whole.

    Raises:
        WrongUsage: the file's name ends with neither .csv nor .parquet.
        SurroundingsFailed: the views are not there, or the database fails.
    """
    form = _format(file)
    try:
        with connection.transaction(), _appearing(file, stdout) as stream, connection.cursor() as cursor:
            connection.execute("set transaction isolation level repeatable read, read only")
            connection.execute("select set_config('work_mem', '64MB', true), set_config('jit', 'off', true)")
            with cursor.copy(_query(wanted)) as copy:
                if form == "parquet":
                    _write_parquet(_Chunks(copy), wanted.fields, stream)
                else:
                    for chunk in copy:
                        stream.write(chunk)
            rows = cursor.rowcount
    except psycopg.errors.UndefinedTable:
        raise SurroundingsFailed(
            "the view training_set is not there: run `streamflow dbt run --select path:models/marts`."
        ) from None
    names = [field.name for field in wanted.fields]
    return Written(wanted.as_of, wanted.label_as_of, rows, names, str(file) if file else None)


def _format(file: Path | None) -> Format:
    match file.suffix.lower() if file else ".csv":
        case ".csv":
            return "csv"
        case ".parquet":
            return "parquet"
        case _:
            raise WrongUsage(f"{file}: the name must end with .csv or .parquet, which says how to write it.")


def _query(wanted: TrainingSet) -> sql.Composed:
    columns = [
        (TRUTH if field.data_type == "boolean" else sql.SQL("{column}")).format(column=sql.Identifier(field.name))
        for field in wanted.fields
    ]
    query = sql.SQL(
        "copy (select {columns} from public.training_set where as_of = {as_of} and label_as_of = {label_as_of})"
        " to stdout (format csv, header)"
    )
    return query.format(
        columns=sql.SQL(", ").join(columns),
        as_of=sql.Literal(wanted.as_of),
        label_as_of=sql.Literal(wanted.label_as_of),
    )


@contextlib.contextmanager
def _appearing(file: Path | None, stdout: TextIO) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is whole; stdout where there is none."""
    if file is None:
        yield stdout.buffer
        stdout.flush()
        return
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class _Chunks(io.RawIOBase):
    """What COPY sends, as a file to read from."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._chunks = iter(copy)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; 0 at the end."""
        filled = 0
        while filled < len(buffer):
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            size = min(len(buffer) - filled, len(self._rest))
            buffer[filled : filled + size] = self._rest[:size]
            self._rest = self._rest[size:]
            filled += size
        return filled


def _write_parquet(rows: io.RawIOBase, fields: Sequence[Field], stream: IO[bytes]) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    types = {
        "text": pa.string(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "numeric": pa.float64(),
        "bigint": pa.int64(),
        "int": pa.int32(),
        "integer": pa.int32(),
        "smallint": pa.int16(),
    }
    schema = pa.schema([(field.name, types[field.data_type]) for field in fields])
    convert = csv.ConvertOptions(
        column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
    )
    parse = csv.ParseOptions(newlines_in_values=True)
    read = csv.ReadOptions(block_size=4 << 20, use_threads=False)
    with (
        csv.open_csv(io.BufferedReader(rows, 4 << 20), read, parse, convert) as reader,
        parquet.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
