"""Tells one PostgreSQL from a Citus cluster, and checks its nodes; macros/ledger/citus.sql has the SQL for Citus."""

from __future__ import annotations

import time

from loader.database.connect import Connection
from loader.database.sql_files import value

POSITION = "position_in_file"
"""The column with a staging row's place in its file. Only tables whose ctid may not give the place have it."""
HAS_POSITION = """
select exists (select from pg_attribute where attrelid = to_regclass(%s) and attname = %s and not attisdropped)
"""

RECOVER = "select recover_prepared_transactions()"
"""Has Citus finish the commits that a node's failure interrupted."""
MAY_RECOVER = """
select has_function_privilege('recover_prepared_transactions()', 'execute')
    and not current_setting('transaction_read_only')::boolean
"""
"""Whether this role may. Asked first, as a role without the privilege may not call it even in a statement that calls it
for no row."""


def is_cluster(connection: Connection) -> bool:
    """Whether the database has the Citus extension."""
    return connection.execute("select 1 from pg_extension where extname = 'citus'").fetchone() is not None


def place_in_file(connection: Connection, staging: str) -> str:
    """SQL for a staging row's place in its file, counted from 1."""
    has_position = value(connection, HAS_POSITION, [staging, POSITION])
    return POSITION if has_position else "row_number() over (order by ctid)"


def files_at_once(connection: Connection) -> int:
    """How many tables land at once. On Citus one landing uses all nodes, and two that create tables can deadlock."""
    return 1 if is_cluster(connection) else 2


def node_failure(connection: Connection) -> str | None:
    """Which Citus workers cannot be reached or have commits pending, and what to do; None if all is well.

    Workers commit one after another, and another session may be committing now, so this waits about a second.
    """
    if not is_cluster(connection):
        return None
    for _ in range(10):
        nodes = [node for (node,) in connection.execute("select ops.pending_nodes()").fetchall()]
        if not nodes:
            return None
        if value(connection, MAY_RECOVER):
            connection.execute(RECOVER)
        time.sleep(0.1)
    return (
        f"{', '.join(nodes)} cannot be reached, or has yet to finish a commit that its failure interrupted. When it is"
        " back, Citus finishes that within citus.recover_2pc_interval, a minute. Then try again, and run `streamflow"
        " verify`."
    )
