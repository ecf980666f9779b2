"""What the ledger says of each month: `streamflow status`."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from loader.database import Connection, statement
from loader.pipeline import ledger


def months(connection: Connection) -> list[dict[str, Any]]:
    """Per as_of the newest attempt, and whether the month is published; oldest date first. None without a ledger."""
    if not ledger.exists(connection):
        return []
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement(__file__, "months")).fetchall()
