"""Whether this is one PostgreSQL or Citus, and its nodes; what is SQL about that is in the package's macros/citus."""

from __future__ import annotations

import time

from loader.database.connect import Connection

POSITION = "position_in_file"
"""What says where in its file a row is that landed on a cluster, or beside others that were taken out again."""
HAS_POSITION = """
select exists (select from pg_attribute where attrelid = to_regclass(%s) and attname = %s and not attisdropped)
"""

RECOVER = (
    "select recover_prepared_transactions() where has_function_privilege('recover_prepared_transactions()', 'execute')"
)
"""Has Citus finish what a node was committing when it failed, where this role may ask for that."""


def is_cluster(connection: Connection) -> bool:
    """Whether the database has the extension of Citus."""
    return connection.execute("select 1 from pg_extension where extname = 'citus'").fetchone() is not None


def place_in_file(connection: Connection, staging: str) -> str:
    """SQL for what a row of a staging table is in its file, counted from 1."""
    has_position = connection.execute(HAS_POSITION, [staging, POSITION]).fetchone() == (True,)
    return POSITION if has_position else "row_number() over (order by ctid)"


def files_at_once(connection: Connection) -> int:
    """How many files are copied at once. All nodes work at one, and two that make tables can end in a deadlock."""
    return 1 if is_cluster(connection) else 2


def pending_nodes(connection: Connection) -> list[str]:
    """The nodes that are away or have not committed yet what the coordinator has, as host:port; [] on one PostgreSQL.

    Nodes commit one after the other, and another session's commit may be under way: a second is waited for that.
    """
    nodes: list[str] = []
    for _ in range(10 if is_cluster(connection) else 0):
        nodes = [node for (node,) in connection.execute("select ops.pending_nodes()").fetchall()]
        if not nodes:
            break
        connection.execute(RECOVER)
        time.sleep(0.1)
    return nodes


def nodes_failed(nodes: list[str]) -> str:
    """The sentences for that, and what to do next."""
    return (
        f"{', '.join(nodes)} cannot be reached, or has yet to finish what it was committing when it failed. Citus does"
        " that when it is back (citus.recover_2pc_interval, a minute). Then try again, and `streamflow verify`."
    )
