"""The views that dbt makes for readers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg

from loader.database.connect import Connection
from loader.errors import SurroundingsFailed
from loader.settings import DBT_PROJECT

PATHS = ("models/marts", "macros/marts", "macros/models/contract.sql", "models/staging/_sources.yml", "dbt_project.yml")
"""What the views follow from."""

SELECT_UP_TO_DATE = """
select versions ->> 'marts' = %s from ops.loads where state = 'published' order by load_id desc limit 1
"""

SELECT_MISSING = "select name from unnest(%s::text[]) as name where to_regclass('public.' || quote_ident(name)) is null"


def names(project: Path = DBT_PROJECT) -> list[str]:
    """The names of the marts, all of them views in schema public."""
    return sorted(path.stem for path in (project / "models" / "marts").rglob("*.sql"))


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
            f"{error.diag.message_primary}: make the views anew with `streamflow dbt run --select path:models/marts`."
        ) from None


@cache
def version() -> str:
    """A hash of all files that the marts follow from."""
    digest = hashlib.sha256()
    for path in PATHS:
        there = DBT_PROJECT / path
        for file in sorted(there.rglob("*.*")) if there.is_dir() else [there]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def up_to_date(connection: Connection) -> bool:
    """Whether the newest published load has left all marts behind as they are declared now."""
    row = connection.execute(SELECT_UP_TO_DATE, [version()]).fetchone()
    return row == (True,) and not missing(connection)


def missing(connection: Connection) -> list[str]:
    """The marts that the database lacks."""
    return [name for (name,) in connection.execute(SELECT_MISSING, [names()]).fetchall()]
