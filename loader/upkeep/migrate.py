"""Tables follow a declaration that was changed: wider types and other names, in one transaction, history proved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from loader.contract.models import require_models
from loader.contract.tables import load_contract
from loader.database import Connection, is_cluster, open_database, statement
from loader.errors import SurroundingsFailed, WrongUsage
from loader.pipeline import chain, ledger
from loader.pipeline.chain import Entry
from loader.pipeline.declared import Change, changes
from loader.project import PACKAGE, project
from loader.settings import Settings

PATIENCE = "10s"
"""How long to wait for those who read or write one of the tables."""
NOTHING = "nothing was changed"


class Target(NamedTuple):
    """A column of one table that gets another type."""

    relation: sql.Identifier
    column: str
    data_type: Any


@dataclass(frozen=True)
class Migrated:
    """What was changed, or would be: columns, dates of history, rows of it, views; and views that dbt has to make."""

    changes: list[str]
    done: bool
    dates: int = 0
    rows: int = 0
    views: list[str] = field(default_factory=list)
    left_to_dbt: list[str] = field(default_factory=list)
    manifest: str | None = None


def migrate(settings: Settings, *, dry_run: bool = False) -> Migrated:
    """Have the tables follow the declaration: all of it or nothing.

    Raises:
        WrongUsage: the declaration asks for what cannot be done, or months of such a table are archived.
        SurroundingsFailed: another run is under way, history is not what the ledger says, a view or a key is in the
            way, or this role does not own one of them.
    """
    tables = load_contract()
    require_models(tables)
    with contextlib.closing(open_database(settings).connect()) as connection:
        if not ledger.exists(connection):
            return Migrated([], done=False)
        ledger.lock(connection)
        wanted = changes(connection, tables)
        entries = [entry for entry in chain.entries(connection) if entry.table_name in {one.table for one in wanted}]
        _refuse(connection, wanted, entries)
        if dry_run or not wanted:
            views = [view["name"] for view in _views(connection, wanted, entries, before=True)]
            rows = sum(entry.rows for entry in entries)
            return Migrated([str(one) for one in wanted], False, len(entries), rows, views)
        with _all_or_nothing(connection):
            migrated = _migrate(connection, wanted, entries)
        for name in dict.fromkeys(one.table for one in wanted):  # a column of another type has no statistics
            for relation in (name, f"{name}_snapshots"):
                connection.execute(sql.SQL("analyze {}").format(sql.Identifier("public", relation)))
    return migrated


def _refuse(connection: Connection, wanted: Sequence[Change], entries: Sequence[Entry]) -> None:
    if archived := sorted({str(entry.as_of) for entry in entries if entry.event == "archived"}):
        raise WrongUsage(
            f"{', '.join(archived)} are archived, and their files have the columns as they were; {NOTHING}:"
            " `streamflow archive --restore`, migrate, and archive them again into another folder."
        )
    for one in wanted if is_cluster(connection) else ():
        spread = connection.execute(statement(__file__, "spread_by"), [f"public.{one.table}"]).fetchone()
        if spread == (one.before,):
            raise WrongUsage(
                f"{one.table}.{one.column} says which node of the cluster a row is on, so neither its type nor its name"
                f" can be changed; {NOTHING}. Declare it as it was, or ingest the months into a new database."
            )


def _migrate(connection: Connection, wanted: Sequence[Change], entries: Sequence[Entry]) -> Migrated:
    if is_cluster(connection):  # it changes views over one connection a node only, if nothing else asked over several
        connection.execute("set local citus.enable_unsafe_triggers = on")
        connection.execute("set local citus.multi_shard_modify_mode = sequential")
    for entry in entries:
        if reason := entry.wrong or _unproved(connection, entry):
            raise SurroundingsFailed(
                f"{entry.table_name} of {entry.as_of}: {reason}; {NOTHING}. `streamflow verify` says more."
            )
    for change, relation in _each(wanted, entries):
        _rename(connection, change, relation)
    for change in wanted:  # as dbt would make it anew, and drop what others have built on it
        _rename(connection, change, sql.Identifier("latest", change.table))
    targets = _targets(connection, wanted, entries)
    views, keys = _views(connection, wanted, entries), _dependents(connection, "keys", targets)
    for dependent in [*keys, *reversed(views)]:
        connection.execute(dependent["drop"].encode())
    for target in targets:
        _widen(connection, target)
    for key in keys:
        _make(connection, key)
    left = [view["name"] for view in views if not _made_anew(connection, view)]
    told = [told for entry in entries if (told := _enter(connection, wanted, entry))]
    values = [[str(one) for one in wanted], ledger.who(), Jsonb(told)]
    link = int(ledger.one_row(connection, statement(__file__, "add_link"), values)[0])
    line = next(each.line for each in chain.links(connection) if each.link == link)
    made = [view["name"] for view in views if view["name"] not in left]
    rows = sum(entry.rows for entry in entries)
    return Migrated([str(one) for one in wanted], True, len(entries), rows, made, left, line)


def _unproved(connection: Connection, entry: Entry) -> str | None:
    proof = [entry.relation.as_string(connection), entry.covered]
    query = statement(__file__, "proof").format(relation=entry.relation)
    found = ledger.one_row(connection, query, proof)
    return None if found == (entry.rows, entry.checksum) else "its rows or their checksum are not those of the ledger"


def _each(wanted: Sequence[Change], entries: Sequence[Entry]) -> Iterator[tuple[Change, sql.Identifier]]:
    """Every change with each table that has the column: production, history, what restatements kept, staging."""
    for one in wanted:
        yield one, sql.Identifier("public", one.table)
        yield one, sql.Identifier("public", f"{one.table}_snapshots")
        yield one, sql.Identifier("staging", one.table)
        for entry in entries:
            if entry.table_name == one.table and entry.schema_name == "restated":
                yield one, entry.relation


def _types(connection: Connection, relation: sql.Identifier) -> dict[str, str]:
    name = relation.as_string(connection)
    return dict(connection.execute(statement(__file__, "types"), [name]).fetchall())


def _rename(connection: Connection, change: Change, relation: sql.Identifier) -> None:
    if change.before != change.column and change.before in _types(connection, relation):
        names = map(sql.Identifier, (change.before, change.column))
        connection.execute(sql.SQL("alter table {} rename column {} to {}").format(relation, *names))


def _targets(
    connection: Connection,
    wanted: Sequence[Change],
    entries: Sequence[Entry],
    *,
    before: bool = False,
    renamed: bool = False,
) -> list[Target]:
    """The columns whose type changes, in each table that has them; `before` they get their new names.

    `renamed`: those that get nothing but another name too.
    """
    targets = []
    for one, relation in _each(wanted, entries):
        name = one.before if before else one.column
        data_type = _types(connection, relation).get(name)
        if data_type and (data_type != one.type_after or (renamed and one.before != one.column)):
            targets.append(Target(relation, name, one.type_after))
    return targets


def _views(
    connection: Connection, wanted: Sequence[Change], entries: Sequence[Entry], *, before: bool = False
) -> list[dict[str, Any]]:
    """The views to make anew. Citus sends its nodes the names that a column had when views on views of it were made."""
    shown = _targets(connection, wanted, entries, before=before, renamed=is_cluster(connection))
    return _dependents(connection, "views", shown)


def _dependents(connection: Connection, what: str, targets: Sequence[Target]) -> list[dict[str, Any]]:
    """The `keys` or `views` that depend on such a column: how each goes, and how it is made again, in this order."""
    values = {
        "relations": [target.relation.as_string(connection) for target in targets],
        "columns": [target.column for target in targets],
        "models": [path.stem for folder in (project().dbt, PACKAGE) for path in (folder / "models").rglob("*.sql")],
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement(__file__, what), values).fetchall()


def _widen(connection: Connection, target: Target) -> None:
    named = [target.relation.as_string(connection), target.column]
    for (drop,) in connection.execute(statement(__file__, "limits"), named).fetchall():
        connection.execute(drop.encode())
    alter = sql.SQL("alter table {} alter column {} type {}")
    connection.execute(alter.format(target.relation, sql.Identifier(target.column), sql.SQL(target.data_type)))


def _make(connection: Connection, dependent: dict[str, Any]) -> None:
    for text in dependent["make"]:
        connection.execute(text.encode())


def _made_anew(connection: Connection, view: dict[str, Any]) -> bool:
    """Make a view anew. One of dbt's that does not suit the new type is left to dbt, which builds another then."""
    try:
        with connection.transaction():
            _make(connection, view)
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        if view["is_of_dbt"]:
            return False
        raise SurroundingsFailed(
            f"the view {view['name']} does not suit the new type ({error.diag.message_primary}); {NOTHING}. Change it"
            " so that it does, or drop it, and migrate again."
        ) from None
    return True


def _enter(connection: Connection, wanted: Sequence[Change], entry: Entry) -> dict[str, Any] | None:
    """Enter the new checksum; returns what the chain is to tell of it, nothing where it is not published yet."""
    names = {one.before: one.column for one in wanted if one.table == entry.table_name}
    covered = [names.get(name, name) for name in entry.covered]
    query = statement(__file__, "proof").format(relation=entry.relation)
    _, checksum = ledger.one_row(connection, query, [entry.relation.as_string(connection), covered])
    update = "update_history" if entry.schema_name == "history" else "update_restated"
    values = {"table": entry.table_name, "as_of": entry.as_of, "load": entry.load_id}
    connection.execute(statement(__file__, update), {**values, "checksum": checksum, "covered": covered})
    if not entry.event:
        return None
    told = {"table": entry.table_name, "as_of": str(entry.as_of), "load": entry.load_id, "rows": entry.rows}
    return {**told, "checksum": int(checksum), "checksum_before": int(entry.checksum)}


@contextlib.contextmanager
def _all_or_nothing(connection: Connection) -> Iterator[None]:
    """One transaction, and a sentence where something is in its way."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(PATIENCE))
            yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise SurroundingsFailed(
            f"{NOTHING}: {error.diag.message_primary}. Have a superuser run `streamflow migrate`, or drop what is not"
            " this role's."
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise SurroundingsFailed(f"{NOTHING}: a table is in use. Try again when nobody reads it.") from None
    except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.errors.DependentObjectsStillExist) as error:
        raise SurroundingsFailed(
            f"{NOTHING}: {error.diag.message_primary} ({error.diag.message_detail}). Drop that, migrate,"
            " and make it anew."
        ) from None
