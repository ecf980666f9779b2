"""How declared tables relate: what they reference, which one has the customers, and the columns of the training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from loader.contract.names import OF_ANY_TABLE, OWN_COLUMNS
from loader.words import counted

if TYPE_CHECKING:
    from loader.contract.tables import Column, Reference, Table


def faults_across(tables: Sequence[Table]) -> Iterator[str]:
    """What is wrong with references, files and `customers` of tables: one sentence each, without a full stop."""
    by_name = {table.name: table for table in tables}
    for table in tables:
        if table.references:
            yield from (f"table {table.name} {why}" for why in _wrong_reference(table, table.references, by_name))
    by_file: dict[str, str] = {}
    for table in tables:
        if (other := by_file.setdefault(table.wanted, table.name)) != table.name:
            yield f"tables {other} and {table.name} would both read {table.wanted}: set `files` for one of them"
    marked = [table.name for table in tables if table.customers]
    if len(marked) > 1:
        yield f"{' and '.join(marked)} both have `customers: true`: only one table can have it"


def _wrong_reference(table: Table, reference: Reference, by_name: Mapping[str, Table]) -> Iterator[str]:
    name = reference.table
    if name == table.name:
        yield "references itself, which only an audit can check: declare `relationships` on the column instead"
        return
    if name not in by_name:
        yield f"references {name}, which is not declared"
        return
    parent, path = by_name[name], [name]
    while (further := by_name[path[-1]].references) and further.table in by_name.keys() - path:
        path.append(further.table)
    if table.name in path:
        yield f"references {name}, which leads back to it"
    columns = reference.columns or parent.key
    if len(columns) != len(parent.key):
        by = counted(len(columns), "column")
        yield f"references {name} by {by}, but the key of {name} has {len(parent.key)}: {', '.join(parent.key)}"
        return
    for column, key in zip(columns, parent.key, strict=True):
        if column not in table.column_names:
            which = "" if reference.columns else f": say by which, `references: {{table: {name}, columns: [...]}}`"
            yield f"references {name} by {column}, but has no such column{which}"
        elif (own := table.column(column).type_name) != (its := parent.column(key).type_name):
            yield f"references {name} by {column}, which is {own}, but {name}.{key} is {its}"


def why_not_forgettable(tables: Sequence[Table]) -> str | None:
    """Why the rows of a customer cannot be identified, so that `forget` is refused; None if they can."""
    by_name = {table.name: table for table in tables}
    for table in tables:
        parent = by_name[table.references.table] if table.references else None
        if len(table.customer) > 1:
            return f"the key of customers is {', '.join(table.customer)}, but must be a single column"
        if parent and parent.customer and not table.customer:
            needed = f"add {parent.customer[0]} to the key of {parent.name}, and to the reference to it"
            return f"rows of {table.name} name a row of {parent.name} but no customer: {needed}"
    return None


def found(tables: Sequence[Table]) -> list[Table]:
    """The tables, completed with the columns of references, `customers`, and the `customer` columns of each.

    The customers are in the table declared with `customers: true`. Without one, they are in the table without
    references that most tables lead to, directly or through others; on a tie, in the first one.
    """
    by_name = {table.name: table for table in tables}
    for table in tables:
        if table.references:
            key = by_name[table.references.table].key
            columns = {"columns": table.references.columns or key, "key": key}
            reference = table.references.model_copy(update=columns)
            by_name[table.name] = table.model_copy(update={"references": reference})
    owner = next((table for table in by_name.values() if table.customers), None) or _most_referenced(by_name)
    return [
        table.model_copy(update={"customers": table is owner, "customer": _customer(table, owner, by_name)})
        for table in by_name.values()
    ]


def customers_first(tables: Sequence[Table]) -> list[Table]:
    """The table that has the customers, then the others in the order of declaration."""
    return sorted(tables, key=lambda table: not table.customers)


def per_customer(tables: Sequence[Table]) -> list[Table]:
    """The tables with one row per customer; the table that has the customers comes first."""
    return [table for table in customers_first(tables) if table.is_per_customer]


def training_columns(tables: Sequence[Table]) -> list[tuple[str, Table, Column]]:
    """Name in the training set, table and column of each feature, and then of each label.

    If several columns have the same name, each gets its table's name as a prefix. The other columns of a table with
    a label are no features, unless that table has the customers.
    """
    everyone, *_ = joined = per_customer(tables)
    columns = [
        (table, column) for table in joined for column in table.columns
        if column.name not in table.key and (column.label or table.customers or not table.has_label)
    ]  # fmt: skip
    names = Counter([*everyone.key, *(column.name for _, column in columns)])
    named: dict[str, tuple[str, Table, Column]] = {}
    for table, column in sorted(columns, key=lambda pair: pair[1].label):
        name = column.name
        if names[name] > 1:
            name = f"{table.name}_{name}"
            while name in {*names, *named, *OWN_COLUMNS}:
                name += "_"
        named[name] = name, table, column
    return list(named.values())


def _most_referenced(by_name: Mapping[str, Table]) -> Table:
    leads = dict.fromkeys((table.name for table in by_name.values() if table.references is None), 0)
    for name in by_name:
        while reference := by_name[name].references:
            name = reference.table  # noqa: PLW2901
        leads[name] += 1
    return by_name[max(leads, key=leads.__getitem__)]


def _customer(table: Table, owner: Table, by_name: Mapping[str, Table]) -> tuple[str, ...]:
    """The columns that hold the owner's key: found along the references, else the table's key if it is the same."""
    if table.references and table is not owner:
        parent = by_name[table.references.table]
        here = dict(zip(parent.key, table.references.columns, strict=True))
        its = _customer(parent, owner, by_name)
        if its and here.keys() >= set(its):
            return tuple(here[column] for column in its)
    return owner.key if table is owner or _has_its_key(table, owner) else ()


def _has_its_key(table: Table, owner: Table) -> bool:
    """Whether a table's key has the names and types of the owner's. A general name like `id` does not count."""
    kinds = [{name: one.column(name).type_name for name in one.key} for one in (table, owner)]
    return kinds[0] == kinds[1] and not OF_ANY_TABLE.issuperset(owner.key)
