"""The views that dbt makes for readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from loader.errors import SurroundingsFailed
from loader.project import model_files


def names() -> list[str]:
    """The names of the marts in schema public, all of them views."""
    return sorted(path.stem for path in model_files("marts") if path.parent.name != "latest")


@contextmanager
def needed() -> Iterator[None]:
    """Say how a view is made that a query finds missing, or without a column that was declared since.

    Raises:
        SurroundingsFailed: one is.
    """
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise SurroundingsFailed(
            f"{error.diag.message_primary}: make the views anew with"
            " `streamflow dbt run --select config.materialized:view`."
        ) from None
