"""Connections to PostgreSQL: the embedded server or another one, a single PostgreSQL or a Citus cluster."""

from loader.database import retries, server
from loader.database.connect import Connection, Database, open_database, running_database
from loader.database.ddl import ops_ddl, ops_functions, ops_views, run_lock
from loader.database.engines import POSITION, files_at_once, is_cluster, node_failure, place_in_file
from loader.database.sql_files import identifiers, one_row, statement, value
from loader.database.waiting import blockers, reporting_blockers
