"""`streamflow forget`: delete customers for good from production, all of history, kept rows, staging and rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from loader.contract.customers import customers_first, why_not_forgettable
from loader.contract.declared import columns_in_database
from loader.contract.names import OF_ANY_TABLE
from loader.contract.tables import Table, load_contract
from loader.database import Connection, identifiers, statement, value
from loader.errors import SurroundingsFailed, WrongUsage
from loader.landing import enter, forgotten, name_of, remember_tables, require_same_customers
from loader.ledger.chain import Entry
from loader.refusals.rejects import delete_rejects
from loader.settings import Settings
from loader.upkeep import history
from loader.words import some_of

NOTHING = "nobody was forgotten"


@dataclass(frozen=True)
class Forgotten:
    """How many customers were forgotten now, and how many before; rows and rejects files deleted; the line for the
    manifest; and the tables left alone, because their rows do not name a customer."""

    customers: int
    before: int
    rows: int
    rejects: int
    manifest: str | None
    left_alone: list[str]


@dataclass(frozen=True)
class CustomerRows:
    """Which rows of a table are the customers': its column that names one, SQL for that as text, a condition, and its
    parameters. `only_landed`: a month with this column has landed, and none is in history yet.
    """

    column: str
    name: sql.Composed
    condition: sql.Composed
    values: dict[str, Any]
    only_landed: bool = False


def forget(settings: Settings, customers: Sequence[str], reason: str) -> Forgotten:
    """Forget customers, all of them or none, and keep later deliveries and old files from bringing them back.

    Raises:
        WrongUsage: no table has one of them, or the declaration does not tell which rows are a customer's.
        SurroundingsFailed: another run is under way, a month is archived, a right is missing, or the ledger is wrong.
    """
    [owner, *_] = tables = customers_first(load_contract())
    if why := why_not_forgettable(tables):
        raise WrongUsage(f"{NOTHING}: {why}. docs/data-contract.md has more.")
    with history.locked(settings) as connection:
        entries = history.entries(connection, NOTHING)
        if archived := history.archived(entries):
            raise SurroundingsFailed(
                f"{NOTHING}: {archived} are archived, and the archived files may contain these customers. Run"
                " `streamflow archive --restore`, forget them, archive again into another folder, and delete the old"
                " files."
            )
        wanted = _named(connection, owner, customers)
        require_same_customers(connection, tables)
        before = forgotten(connection, wanted)
        new = [customer for customer in wanted if customer not in before]
        with history.all_or_nothing(connection, NOTHING):
            rows, left_alone, manifest = _forget(connection, entries, tables, wanted, new, reason)
            remember_tables(connection, tables)
        _clean(connection, entries, tables)  # even if nobody is new: an interrupted run may have skipped it
    rejects = delete_rejects(settings.home / "rejects")
    return Forgotten(len(new), len(before), rows, rejects, manifest, left_alone)


def _named(connection: Connection, owner: Table, customers: Sequence[str]) -> list[str]:
    """The customers, written as in the tables: where keys are numbers, 007 becomes 7."""
    kind = _kind(connection, owner)
    query = statement(__file__, "named").format(name=name_of("customer", kind), type=sql.SQL(kind))
    try:
        return [name for (name,) in connection.execute(query, [list(customers)]).fetchall()]
    except psycopg.DataError as error:
        raise WrongUsage(
            f"{NOTHING}: one of them cannot be a customer: {error.diag.message_primary}. Write them as in the files."
        ) from None


def _kind(connection: Connection, owner: Table) -> str:
    """The type of the key of customers in history, to which `migrate` may not have given its declared type and name."""
    key, name = owner.column(owner.key[0]), f"{owner.name}_snapshots"
    known = columns_in_database(connection, [name]).get(name, {})
    return next((known[one] for one in key.names if one in known), key.data_type)


def _has(connection: Connection, schema: str, name: str, column: str) -> bool:
    """Whether a table is there and has the column, which may have been declared just now."""
    return column in columns_in_database(connection, [name], schema).get(name, {})


def _is_there(connection: Connection, relation: sql.Identifier) -> bool:
    return bool(value(connection, "select to_regclass(%s) is not null", [relation.as_string(connection)]))


def _clean(connection: Connection, entries: Sequence[Entry], tables: Sequence[Table]) -> None:
    """Take deleted rows out of the files and the statistics: so few rows do not trigger autovacuum."""
    relations = [entry.relation for entry in entries if entry.schema_name == "restated"]
    for name in {*(entry.table_name for entry in entries), *(table.name for table in tables)}:
        relations += [sql.Identifier("public", f"{name}_snapshots")]  # with its partitions
        relations += [sql.Identifier("public", name), sql.Identifier("staging", name)]
    for relation in relations:
        if _is_there(connection, relation):
            connection.execute(sql.SQL("vacuum (analyze) {}").format(relation))


def _forget(
    connection: Connection,
    entries: Sequence[Entry],
    tables: Sequence[Table],
    customers: list[str],
    new: Sequence[str],
    reason: str,
) -> tuple[int, list[str], str | None]:
    """Delete the rows of customers, also of those forgotten before: a table may have named no customers then.

    `tables` begin with that of the customers. Returns how many rows, the tables left alone, and the line for the
    manifest, if anything was done.
    """
    for entry in entries:
        if entry.schema_name == "restated":
            of = sql.Identifier("public", f"{entry.table_name}_snapshots")
            which = [name.as_string(connection) for name in (entry.relation, of)]
            connection.execute("select ops.add_columns(%s::regclass, %s::regclass)", which)
    connection.execute(statement(__file__, "shorten_errors"))
    owner = tables[0]
    names = dict.fromkeys([*(entry.table_name for entry in entries), *(table.name for table in reversed(tables))])
    in_order = sorted(names, key=lambda name: name == owner.name)  # last, as deletes from it cascade to other tables
    found = [(name, _rows_of(connection, name, tables, customers)) for name in in_order]
    theirs = {name: which for name, which in found if which}
    left_alone = [name for name in names if name not in theirs]
    _require_kept(connection, names, {name: which for name, which in theirs.items() if not which.only_landed})
    whose, told = _delete(connection, entries, theirs)
    for (name,) in connection.execute(statement(__file__, "no_longer_landed"), [list(names)]).fetchall():
        # its statistics, which keep values, would outlive TRUNCATE
        connection.execute(sql.SQL("drop table {}").format(sql.Identifier("staging", name)))
    if left := set(new).difference(whose):
        unknown = some_of([f'"{customer}"' for customer in sorted(left)])
        raise WrongUsage(f"{NOTHING}: no table has a row of {unknown}. Write them as in the files.")
    if not whose:
        return 0, left_alone, None
    link = history.add_link(connection, "forgotten", told, customers=len(new), reason=reason)
    enter(connection, new, link.link)
    return whose.total(), left_alone, link.line


def _require_kept(connection: Connection, names: Collection[str], theirs: Mapping[str, CustomerRows]) -> None:
    """Refuse to delete rows of production if a foreign key would then delete rows that are not of these customers."""
    broken = []
    for name, table, key, columns, parent, to_columns in connection.execute(
        statement(__file__, "cascades"), {"names": list(names), "parents": list(theirs)}
    ).fetchall():
        own, others = theirs.get(name), theirs[parent]
        query = statement(__file__, "loses_rows").format(
            table=sql.Identifier("public", name),
            columns=sql.SQL(columns),
            parent=sql.Identifier("public", parent),
            to_columns=sql.SQL(to_columns),
            own=own.condition if own else sql.SQL("false"),
            others=others.condition,
        )
        if value(connection, query, others.values | (own.values if own else {})):
            broken.append((table, key))
    if broken:
        tables = ", ".join(table for table, _ in broken)
        drops = "; ".join(f"alter table {table} drop constraint {key}" for table, key in broken)
        raise SurroundingsFailed(
            f"{NOTHING}: rows of {tables} that belong to nobody or to others would be deleted by a foreign key. Take it"
            f" out of the constraints of the model, if they have it, and `{drops}` in psql. Then try again."
        )


def _delete(
    connection: Connection, entries: Sequence[Entry], theirs: Mapping[str, CustomerRows]
) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Delete the rows everywhere; returns a count per customer, and records for the chain."""
    whose, told = Counter[str](), list[dict[str, Any]]()
    for entry in entries:
        which = theirs.get(entry.table_name)
        if which and not which.only_landed and (gone := _from_history(connection, entry, which))["rows"]:
            whose.update(gone["customers"])
            if entry.event:
                checksum = int(entry.checksum - gone["checksum"])
                told.append(history.record_of(entry, rows=entry.rows - gone["rows"], checksum=checksum))
    for name, which in theirs.items():
        for schema in ("staging", "public"):
            whose.update(_from_table(connection, schema, name, which))
    return whose, told


def _rows_of(connection: Connection, name: str, tables: Sequence[Table], customers: list[str]) -> CustomerRows | None:
    """Which rows of a table to delete; None if no column names a customer, also as no month has brought it yet.

    A row that belonged to one of them on any date is deleted on all dates. Otherwise an older version, which names
    somebody else, would become its newest one.
    """
    owner, table = tables[0], next((table for table in tables if table.name == name), None)
    asked = {"table": name, "customers": owner.name, "key": None if owner.key[0] in OF_ANY_TABLE else owner.key[0]}
    columns = table.customer if table else connection.execute(statement(__file__, "referencing"), asked).fetchone()
    if not columns:
        return None
    values, kind = dict[str, Any](customers=customers), _kind(connection, owner)
    known = columns_in_database(connection, [f"{name}_snapshots"]).get(f"{name}_snapshots")
    called = table.column(columns[0]).names if table else columns  # `migrate` may not have renamed it yet
    column = next((one for one in called if known and one in known), columns[0])
    only_landed = known is not None and column not in known
    if only_landed and not _has(connection, "staging", name, column):
        return None
    parts = {"customer": sql.Identifier(column), "type": sql.SQL(kind)}
    by_customer = statement(__file__, "by_customer").format(**parts)
    key = connection.execute(statement(__file__, "key"), [f"{name}_snapshots"]).fetchall()
    if not key or only_landed or column in dict(key):
        return CustomerRows(column, name_of(column, kind), by_customer, values, only_landed)
    parts["key"] = identifiers(part for part, _ in key)
    parts["history"] = sql.Identifier("public", f"{name}_snapshots")
    rows = connection.execute(statement(__file__, "keys").format(by_customer=by_customer, **parts), values).fetchall()
    keys = {f"key_{n}_of_{name}": [row[n] for row in rows] for n in range(len(key))}
    each = [
        sql.SQL("{}::{}[]").format(sql.Placeholder(place), sql.SQL(its))
        for place, (_, its) in zip(keys, key, strict=True)
    ]
    both = statement(__file__, "by_key").format(by_customer=by_customer, each=sql.SQL(", ").join(each), **parts)
    return CustomerRows(column, name_of(column, kind), both, values | keys)


def _from_history(connection: Connection, entry: Entry, theirs: CustomerRows) -> dict[str, Any]:
    """Delete from a partition or a kept copy, and subtract the rows and their checksum from its ledger entry.

    Returns what was deleted: `rows`, how many of them were `delivered`, their `checksum`, and their `customers`.
    """
    names = {"relation": entry.relation, "theirs": theirs.condition, "name": theirs.name}
    connection.execute(statement(__file__, "make_leaving").format(**names))
    connection.execute(statement(__file__, "leaving").format(**names), theirs.values)
    sums = statement(__file__, "sums").format(**names)
    [gone] = connection.cursor(row_factory=dict_row).execute(sums, [entry.covered]).fetchall()
    connection.execute("drop table pg_temp.leaving")
    if gone["rows"]:
        connection.execute(sql.SQL("alter table {} disable trigger user").format(entry.relation))
        connection.execute(statement(__file__, "delete").format(**names), theirs.values)
        connection.execute(sql.SQL("alter table {} enable trigger user").format(entry.relation))
        fewer = {"fewer": gone["rows"], "fewer_delivered": gone["delivered"]}
        history.enter(connection, entry, checksum=entry.checksum - gone["checksum"], covered=entry.covered, **fewer)
    return gone


def _from_table(connection: Connection, schema: str, name: str, theirs: CustomerRows) -> list[str]:
    """Delete from production or staging; returns the customer of each deleted row."""
    relation = sql.Identifier(schema, name)
    if not _has(connection, schema, name, theirs.column):
        return []
    names = {"relation": relation, "theirs": theirs.condition, "name": theirs.name}
    query = statement(__file__, "delete").format(**names)
    found = [customer for (customer,) in connection.execute(query, theirs.values).fetchall()]
    if schema == "staging":
        connection.execute(statement(__file__, "update_staged"), [len(found), name])
    return found
