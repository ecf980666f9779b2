"""The exceptions that end a command; each carries its documented exit code."""

from __future__ import annotations

import psycopg

FINISH = "streamflow dbt run --select complete_months+"
"""Publishes a month whose history stands in all its tables, whatever staging holds."""


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


REMEDIES: dict[type[psycopg.Error], str] = {
    psycopg.errors.DiskFull: (
        "The database's disk is full: make room. If a shared memory segment is named, it is not the disk: raise"
        " `shm_size` of the server's container."
    ),
    psycopg.errors.InsufficientPrivilege: (
        "This role lacks a right: set POSTGRES_USER to the role that ingests. If that is set, `streamflow init"
        " --roles`, run by a superuser, grants what is missing, and hands over the tables. A role that only reads can"
        " use the tables and views, and `history`, `diff` and `training-set`."
    ),
    psycopg.errors.CheckViolation: (
        "Rows of history violate a check constraint that somebody added: drop that constraint in psql, then try again."
    ),
    psycopg.errors.ReadOnlySqlTransaction: (
        "If this server is a standby, as after a failover, set POSTGRES_HOST to the primary."
    ),
    psycopg.errors.UndefinedColumn: (
        "If the declaration renames it, run `streamflow migrate`. If you have just declared it, or updated streamflow,"
        " the next published month adds it. To add it now, run `streamflow dbt run --select config.materialized:view`."
    ),
    psycopg.errors.UndefinedTable: (
        "`streamflow init` makes missing tables, `streamflow dbt run --select config.materialized:view` missing views."
    ),
}
"""What to do about an error of the database."""


def complaint(error: psycopg.Error | OSError) -> str:
    """The text for an error of the database or the operating system."""
    if not isinstance(error, psycopg.Error):
        return f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    remedy = REMEDIES.get(type(error))
    return f"{reason(error)}. {remedy}" if remedy else f"database error: {str(error).strip()}"


def in_the_way(nothing: str, error: psycopg.Error) -> SurroundingsFailed:
    """The failure that a dependent object of the user causes; `nothing` says what was left as it was."""
    detail = None if isinstance(error, psycopg.IntegrityError) else error.diag.message_detail  # else: a row or key
    said = "; ".join(filter(None, [error.diag.message_primary, detail])).rstrip(".")
    return SurroundingsFailed(f"{nothing}: {said}. Drop what is in the way, try again, then recreate it.")


def reason(error: psycopg.Error) -> str:
    """The reason that the server or the client gives, without its context."""
    return (error.diag.message_primary or str(error)).strip()
