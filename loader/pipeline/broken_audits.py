"""Audits that PostgreSQL cannot run, as they name what is not there: a mistake of the declaration, and of no file."""

from __future__ import annotations

import psycopg
from psycopg import sql

from loader.database import Connection
from loader.errors import WrongDeclaration
from loader.pipeline.audits import Audit
from loader.pipeline.dbt import DbtRun


def require_runnable(connection: Connection, result: DbtRun) -> None:
    """Go on only where PostgreSQL understands every audit that ran.

    Raises:
        WrongDeclaration: it does not; the message names the audit, what it does not know, and what to do.
    """
    failed = {node.name for node in result.bad if node.status == "error"}
    for audit in result.audits.values():
        if audit.audit_name in failed and (reason := _not_understood(connection, audit)):
            raise WrongDeclaration(
                f"the audit {audit.audit_name} of {audit.table_name} cannot be run: {reason}. That is no fault of the"
                f" files: name the column in {audit.path} as it is declared now, or take the audit out. Nothing was"
                " published."
            )


def _not_understood(connection: Connection, audit: Audit) -> str | None:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("explain {}").format(sql.SQL(audit.compiled or "select")))
    except psycopg.errors.InsufficientPrivilege:
        return None
    except psycopg.ProgrammingError as error:
        return error.diag.message_primary
    return None
