"""Compare the declared columns with those in the database: nothing is landed while they differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loader.contract.tables import Column, Table, model_columns
from loader.database import Connection, statement, value
from loader.errors import WrongUsage
from loader.words import some_of

ADDED = {"as_of", "observed_as_of"}
WIDER = {
    "smallint": {"integer", "bigint", "numeric", "text"},
    "integer": {"bigint", "numeric", "text"},
    "bigint": {"numeric", "text"},
    "numeric": {"text"},
    "date": {"text"},
}
"""Type -> the types that can hold each of its values unchanged."""


@dataclass(frozen=True)
class Change:
    """A column that has another name or a narrower type in the database than in the declaration."""

    table: str
    column: str
    before: str
    type_before: str
    type_after: str

    def __str__(self) -> str:
        was = [f"was {self.before}"] if self.before != self.column else []
        was += [f"{self.type_before} to {self.type_after}"] if self.type_before != self.type_after else []
        return f"{self.table}.{self.column}: {', '.join(was)}"


def changes(connection: Connection, tables: Sequence[Table]) -> list[Change]:
    """The changes that `streamflow migrate` would make to history and production.

    Raises:
        WrongUsage: history cannot follow the declaration, or is of other tables; the message says what to do.
    """
    there = require_own(connection, tables)
    landed = columns_in_database(connection, [table.name for table in tables], schema="staging")
    rows = connection.execute(statement(__file__, "keys"), [[table.name for table in tables]])
    keys: dict[str, list[str]] = dict(rows.fetchall())
    brought = _brought(connection)
    if brought and brought.keys().isdisjoint(table.name for table in tables):
        raise WrongUsage(
            f"this database has months of {some_of(sorted(brought))}, but of none of the tables declared here: it is"
            " another project's, or this one no longer declares them. Name another database in POSTGRES_DB. Nothing was"
            " changed."
        )
    found: list[Change] = []
    for table in tables:
        if known := there.get(f"{table.name}_snapshots"):
            found += _changes(table, f"history/{table.name}_snapshots", known, landed, brought, keys.get(table.name))
        if known := there.get(table.name):
            found += _changes(table, f"production/{table.name}", known, landed, brought)
    return list(dict.fromkeys(found))


def require_own(connection: Connection, tables: Sequence[Table]) -> dict[str, dict[str, str]]:
    """Require that no table or view of somebody else has a declared name; return the columns of history and production.

    Raises:
        WrongUsage: one has; the message names it.
    """
    names = [name for table in tables for name in (f"{table.name}_snapshots", table.name)]
    there = columns_in_database(connection, names)
    for name, columns in there.items():
        if "observed_as_of" not in columns:
            raise WrongUsage(
                f"public.{name} was not made by streamflow: name another database in POSTGRES_DB, or rename that table"
                " in psql. Nothing was changed."
            )
    return there


def _brought(connection: Connection) -> dict[str, list[str]]:
    """Table -> the columns that months have brought; empty without a ledger."""
    if value(connection, "select to_regclass('ops.history') is null"):
        return {}
    return dict(connection.execute(statement(__file__, "brought")).fetchall())


def columns_in_database(
    connection: Connection, relations: Sequence[str], schema: str = "public"
) -> dict[str, dict[str, str]]:
    """Name of a table -> its columns and their types, for the tables that exist in the schema."""
    there: dict[str, dict[str, str]] = {}
    rows = connection.execute(statement(__file__, "columns"), {"schema": schema, "relations": relations})
    for relation, column, data_type in rows.fetchall():
        there.setdefault(relation, {})[column] = data_type
    return there


def require_unchanged(connection: Connection, tables: Sequence[Table]) -> None:
    """Require that the database has the columns as they are declared; new columns may still be missing.

    Raises:
        WrongUsage: a column differs; the message says what to do.
    """
    if found := changes(connection, tables):
        raise WrongUsage(
            f"the tables differ from the declaration ({'; '.join(map(str, found[:5]))}): `streamflow migrate` changes"
            " them, `streamflow migrate --dry-run` shows how. Nothing was changed."
        )


def _changes(
    table: Table,
    model: str,
    known: Mapping[str, str],
    landed: Mapping[str, Collection[str]],
    brought: Mapping[str, Collection[str]],
    key: Sequence[str] | None = None,
) -> Iterator[Change]:
    """The changes to one table, whose columns (`known`) and primary key (`key`) are those in the database.

    `landed` maps each staging table to its columns, which are those declared at the last landing; `brought` maps each
    table to the columns that months have brought.
    """
    called = {one.name: next((name for name in one.names if name in known), None) for one in table.columns}
    if key and key != [called[name] for name in table.declared(table.key)]:
        raise WrongUsage(
            f"{table.name} has the key {', '.join(key)} in the database, but is declared with {', '.join(table.key)}:"
            " history keeps its key. Declare its primary_key as it was, or declare a new table. Nothing was changed."
        )
    for column in table.columns:
        if before := called[column.name]:
            yield from _change(table.name, column, before, known[before])
    unknown = known.keys() - called.values() - ADDED
    own = model_columns(model).difference(landed.get(table.name, ())) if unknown else ()  # columns added by users
    if undeclared := sorted(unknown.difference(own)):
        relation, name = model.partition("/")[2], undeclared[0]
        raise _undeclared(relation, name, was_brought=name in brought.get(table.name, ()))


def _change(table: str, column: Column, before: str, narrow: str) -> Iterator[Change]:
    """The change to a column that is called `before` and has the type `narrow` in the database, if any."""
    wide = column.type_name
    if wide not in {narrow, *WIDER.get(narrow, ())}:
        raise WrongUsage(
            f"{table}.{column.name} is {narrow} in the database but declared as {wide}, which cannot hold"
            f" every value in history. Declare it as {narrow} again, and a column of another name as {wide};"
            " docs/changes.md lists the changes of type that are possible. Nothing was changed."
        )
    if (before, narrow) != (column.name, wide):
        yield Change(table, column.name, before, narrow, wide)


def _undeclared(relation: str, name: str, *, was_brought: bool) -> WrongUsage:
    if not was_brought:
        return WrongUsage(
            f"{relation} has a column {name} that is not declared, and no month has brought it: declare it, or"
            f" `alter table {relation} drop column {name}` in psql. Nothing was changed."
        )
    return WrongUsage(
        f"{relation} has a column {name} that is no longer declared, but history keeps its values. If it was"
        " renamed, add the old name to the `aliases` of the new column, and run `streamflow migrate`; if not, declare"
        " it again, with `retired: true` in its config.meta, or let the model that computed it select it as null."
        " Nothing was changed."
    )
