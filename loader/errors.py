"""The exceptions that end a command; each carries its documented exit code."""

from __future__ import annotations

import psycopg

FINISH = "streamflow dbt run --select complete_months+"
"""Publishes a month whose history stands in all its tables, whatever staging holds."""
REMAKE = "`streamflow init` makes missing tables, `streamflow dbt run --select config.materialized:view` missing views."

STANDBY = "if this server is a standby, as after a failover, set POSTGRES_HOST to the primary"


class StreamflowError(Exception):
    """A sentence for the person at the terminal: what is wrong, where, and what to do next."""

    exit_code = 3


class DataRefused(StreamflowError):
    """The data was refused; nothing was changed."""

    exit_code = 1


class WrongUsage(StreamflowError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class WrongDeclaration(StreamflowError):
    """An audit cannot run as it is declared; this shows only after the month has landed."""

    exit_code = 2


class SurroundingsFailed(StreamflowError):
    """Something the command needs is missing or broken: the database, the disk, dbt."""

    exit_code = 3


class NotDelivered(StreamflowError):
    """The month is not there yet: neither its folder nor its ZIP archive."""

    exit_code = 4


class ModelsFailed(StreamflowError):
    """The month is published, and something made from it failed: model, test, schema, report or archiving."""

    exit_code = 5


def complaint(error: psycopg.Error | OSError) -> str:
    """The sentence for an error of the database or the operating system."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return (
            f"this role lacks a right ({error.diag.message_primary or error}): set POSTGRES_USER to the role that"
            " ingests. If that is set, `streamflow init --roles`, run by a superuser, grants what is missing. A role"
            " that only reads can use the tables and views, and `history`, `diff` and `training-set`."
        )
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return f"{error.diag.message_primary}: {STANDBY}."
    if isinstance(error, psycopg.errors.UndefinedColumn):
        return (
            f"{error.diag.message_primary}: if you have just declared this column or updated streamflow, the next"
            " published month adds it. To add it now, run `streamflow dbt run --select config.materialized:view`."
        )
    if isinstance(error, psycopg.errors.UndefinedTable):
        return f"{error.diag.message_primary}: {REMAKE}"
    if isinstance(error, psycopg.Error):
        return f"the database says: {str(error).strip()}"
    return f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
