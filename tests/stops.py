"""Makes a run fail at a chosen point: what it has committed until then stays, as if it had been killed there."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from psycopg import sql

from tests.conftest import Streamflow

SAID = "stopped here"
FUNCTION = f"create function ops.stop() returns trigger language plpgsql as $$ begin raise exception '{SAID}'; end $$"
POINTS = {
    "history": "insert on ops.history for each row when (new.table_name = any({tables}))",
    "merge": "update on ops.history for each row when (new.table_name = any({tables}) and new.merged_at is not null)",
    "published": "insert on ops.published for each row when ({tables} is not null)",
}
"""Point -> the change that fails: history or a merge of one of some tables, or the entry in `published`."""


@contextlib.contextmanager
def stopped(streamflow: Streamflow, point: str, tables: Collection[str] = ()) -> Iterator[None]:
    """Inside the block, runs fail when they reach the point for one of the tables."""
    streamflow.connection.execute(FUNCTION.encode())
    at = sql.SQL(POINTS[point]).format(tables=sql.Literal(list(tables)))
    streamflow.connection.execute(sql.SQL("create trigger stop before {} execute function ops.stop()").format(at))
    try:
        yield
    finally:
        streamflow.connection.execute("drop function ops.stop cascade")
