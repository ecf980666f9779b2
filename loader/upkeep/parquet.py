"""Parquet files from the CSV of COPY, and back; memory use does not grow with the number of rows."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from psycopg.sql import Composed

from loader.database import Connection
from loader.errors import SurroundingsFailed, WrongUsage


def require_pyarrow() -> None:
    """Require pyarrow, which writes and reads Parquet files.

    Raises:
        WrongUsage: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise WrongUsage("streamflow cannot handle Parquet as it is installed: pip install pyarrow.")


@contextmanager
def appearing(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside `file` that replaces it when the block succeeds. Creates the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    path = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield path
        path.replace(file)
    finally:
        path.unlink(missing_ok=True)


def copy_out(connection: Connection, query: Composed, stream: BinaryIO) -> int:
    """Write the output of COPY to a stream; returns the number of rows."""
    with connection.cursor() as cursor:
        with cursor.copy(query) as copy:
            for chunk in copy:
                stream.write(chunk)
        return cursor.rowcount


def from_csv(path: Path, types: Mapping[str, str], *, exact: bool = False) -> None:
    """Turn a CSV file into a Parquet file, in place.

    Args:
        types: PostgreSQL's type of each column.
        exact: write numeric as text to keep all digits: 29.90 and 29.9 differ, and no Parquet type keeps both. Dates
            and timestamps become text if a file has one that Parquet cannot hold, like infinity.

    Raises:
        SurroundingsFailed: a value has no place in Parquet, and need not be `exact`.
    """
    import pyarrow as pa

    arrow = {
        "text": pa.string(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp without time zone": pa.timestamp("us"),
        "numeric": pa.string() if exact else pa.float64(),
        "double precision": pa.float64(),
        "bigint": pa.int64(),
        "integer": pa.int32(),
        "smallint": pa.int16(),
    }
    kinds = {name: arrow.get(data_type, pa.string()) for name, data_type in types.items()}
    try:
        _convert(path, pa.schema(kinds.items()))
    except pa.ArrowInvalid as error:
        if not exact:
            said = f"Parquet cannot hold a value, as with a date of infinity: {error}. Write CSV instead."
            raise SurroundingsFailed(said) from None
        plain = {name: pa.string() if pa.types.is_temporal(kind) else kind for name, kind in kinds.items()}
        _convert(path, pa.schema(plain.items()))


def _convert(path: Path, schema: Any) -> None:
    from pyarrow import csv, parquet

    convert = csv.ConvertOptions(
        column_types=schema,
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
        true_values=["true", "t"],
        false_values=["false", "f"],
    )
    parse = csv.ParseOptions(newlines_in_values=True)
    read = csv.ReadOptions(block_size=4 << 20, use_threads=False)
    with (
        appearing(path) as made,
        csv.open_csv(path, read, parse, convert) as batches,
        parquet.ParquetWriter(made, schema, compression="zstd") as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


def columns(path: Path) -> list[str]:
    """The names of a file's columns."""
    from pyarrow import parquet

    return list(parquet.read_schema(path).names)


def as_csv(path: Path) -> Iterator[bytes]:
    """The rows of a file as CSV for COPY, without a header, in chunks."""
    from pyarrow import csv, parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            sink = io.BytesIO()
            csv.write_csv(batch, sink, csv.WriteOptions(include_header=False))
            yield sink.getvalue()
