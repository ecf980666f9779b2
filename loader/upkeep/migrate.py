"""`streamflow migrate`: give columns new names and wider types in one transaction, after proof of history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from loader.contract.declared import Change, changes, columns_in_database
from loader.contract.model_check import require_models
from loader.contract.tables import Table, load_contract
from loader.database import Connection, is_cluster, statement
from loader.errors import SurroundingsFailed, WrongUsage
from loader.ledger.chain import Entry
from loader.project import model_files
from loader.settings import Settings
from loader.upkeep import history

NOTHING = "nothing was changed"


@dataclass(frozen=True)
class Migrated:
    """What was changed, or would be: columns, partitions (`dates`) and their rows, views; and views left to dbt."""

    changes: list[str]
    done: bool
    dates: int = 0
    rows: int = 0
    views: list[str] = field(default_factory=list)
    left_to_dbt: list[str] = field(default_factory=list)
    manifest: str | None = None


def migrate(settings: Settings, *, dry_run: bool = False) -> Migrated:
    """Change the tables as the declaration says: all of it or nothing. Raises what api.migrate says."""
    tables = load_contract()
    require_models(tables)
    with history.locked(settings, changes=not dry_run) as connection:
        wanted = changes(connection, tables)
        if not wanted:
            return Migrated([], done=False)
        names = {one.table for one in wanted}
        entries = [entry for entry in history.entries(connection, NOTHING) if entry.table_name in names]
        _refuse(connection, tables, wanted, entries)
        said, rows = list(map(str, wanted)), sum(entry.rows for entry in entries)
        if dry_run:
            views = [view["name"] for view in _views(connection, _columns(connection, wanted))]
            return Migrated(said, False, len(entries), rows, views)
        with history.all_or_nothing(connection, NOTHING):
            if is_cluster(connection):  # a change of views needs one connection per node throughout
                connection.execute("set local citus.multi_shard_modify_mode = sequential")
            history.require_proved(connection, entries, NOTHING)
            made, left = _change(connection, _columns(connection, wanted))
            told = list(filter(None, [_enter(connection, wanted, entry) for entry in entries]))
            link = history.add_link(connection, "migrated", told, columns=said)
        for relation in columns_in_database(connection, [*names, *(f"{name}_snapshots" for name in names)]):
            # a column with a new type has lost its statistics
            connection.execute(sql.SQL("analyze {}").format(sql.Identifier("public", relation)))
    return Migrated(said, True, len(entries), rows, made, left, link.line)


def _refuse(
    connection: Connection, tables: Sequence[Table], wanted: Sequence[Change], entries: Sequence[Entry]
) -> None:
    if archived := history.archived(entries):
        raise WrongUsage(
            f"{archived} are archived, and their files have the columns as they were; {NOTHING}:"
            " `streamflow archive --restore`, migrate, and archive them again into another folder."
        )
    keys = {(table.name, name) for table in tables for name in table.customer}
    widened = [one for one in wanted if one.type_after == "text" and one.type_before != "text"]
    as_text = [one for one in widened if (one.table, one.column) in keys]
    if as_text and connection.execute("select 1 from ops.forgotten limit 1").fetchone():
        raise WrongUsage(
            f"{as_text[0]}: customers are forgotten, and are recognized by their key as {as_text[0].type_before}. As"
            f" text, which may be written in other ways, they could come back. Declare it as it was; {NOTHING}."
        )
    for one in wanted if is_cluster(connection) else ():
        spread = connection.execute(statement(__file__, "spread_by"), [f"public.{one.table}"]).fetchone()
        if spread == (one.before,):
            raise WrongUsage(
                f"{one.table}.{one.column} says which node of the cluster a row is on, so neither its type nor its name"
                f" can be changed; {NOTHING}. Declare it as it was, or ingest the months into a new database."
            )


def _columns(connection: Connection, wanted: Sequence[Change]) -> list[dict[str, Any]]:
    """The columns to change in production, history, replaced rows, staging and `latest`, with their names there."""
    names = ("table", "column", "before", "type_after")
    values = {f"{name}s": [getattr(one, name) for one in wanted] for name in names}
    return connection.cursor(row_factory=dict_row).execute(statement(__file__, "columns"), values).fetchall()


def _depending(connection: Connection, what: str, columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The `keys` or `views` that depend on a column, with SQL to drop and to make each; views after those they read."""
    changed = [one for one in columns if one["is_retyped"] or (what == "views" and is_cluster(connection))]
    values = {
        "relations": [one["relation"] for one in changed],
        "columns": [one["column_name"] for one in changed],
        "befores": [one["name_there"] for one in changed],
        "models": [path.stem for path in model_files()],
    }
    return connection.cursor(row_factory=dict_row).execute(statement(__file__, what), values).fetchall()


def _views(connection: Connection, columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """dbt's views of such columns. If other views block a new type, PostgreSQL's error names them.

    PostgreSQL lets a column change its name beneath a view; Citus sends its nodes the name from when it made the view.
    """
    views = _depending(connection, "views", columns)
    others = [view["name"] for view in views if not view["is_of_dbt"]]
    if others and is_cluster(connection):
        raise SurroundingsFailed(
            f"{NOTHING}: {', '.join(others)} would show a column that changes. Drop what is in the way, try again, then"
            " recreate it."
        )
    return [view for view in views if view["is_of_dbt"]]


def _change(connection: Connection, columns: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Change names and types; returns the views that were made again, and those that are left to dbt."""
    for one in columns:
        if one["name_there"] != one["column_name"]:
            _run(connection, one["rename"])
    views, keys = _views(connection, columns), _depending(connection, "keys", columns)
    for dependent in [*keys, *reversed(views)]:
        _run(connection, dependent["drop"])
    for one in columns:
        if one["is_retyped"]:
            _run(connection, *one["checks"], one["retype"])
    for key in keys:
        _run(connection, *key["make"])
    made = [view["name"] for view in views if _made_anew(connection, view)]
    return made, [view["name"] for view in views if view["name"] not in made]


def _run(connection: Connection, *statements: str) -> None:
    for text in statements:
        connection.execute(text.encode())


def _made_anew(connection: Connection, view: dict[str, Any]) -> bool:
    """Make a view again; False if its SQL does not suit the new type, so that dbt has to build it."""
    try:
        with connection.transaction():
            _run(connection, *view["make"])
    except (psycopg.ProgrammingError, psycopg.DataError):
        return False
    return True


def _enter(connection: Connection, wanted: Sequence[Change], entry: Entry) -> dict[str, Any] | None:
    """Enter the new checksum; returns the record for the chain, or None if the entry is not published yet."""
    names = {one.before: one.column for one in wanted if one.table == entry.table_name}
    covered = [names.get(name, name) for name in entry.covered]
    _, checksum = history.measured(connection, entry.relation, covered)
    history.enter(connection, entry, checksum=checksum, covered=covered)
    changed = {"checksum": int(checksum), "checksum_before": int(entry.checksum)}
    return history.record_of(entry, **changed) if entry.event else None
