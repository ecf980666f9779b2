"""Propose a contract from one month of files: tables, types, keys, references and audits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, count
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined
from psycopg import sql

from loader.contract.names import OWN_COLUMNS, SQL_WORDS, in_sql
from loader.database import Connection, identifiers, statement, value
from loader.delivery.causes import TOTAL_LINE, Cause, of_value
from loader.delivery.csv_contract import is_total
from loader.scaffold.files import MONTH, OTHER_ENCODING, TEMPLATE, Export, plain_name
from loader.scaffold.references import find_references
from loader.words import counted

SEARCHED = 8
"""How many columns, likeliest first, are tried as parts of a composite key."""
SHOWN = 3
"""How many values a note shows."""
MEND_FEW = "Correct the file and begin again; or declare the type, and what stands for no value under `nulls`"
LIKE_A_KEY = re.compile(r"(^|_)(id|key|code|no|nr|number|uuid|email)$")
TEMPLATE_OF_SOURCES = Path(__file__).parent / "templates" / "sources.yml"


@dataclass
class ColumnSeen:
    """A column of a file: its name in the header, its name in the table, and what its values are."""

    header: str
    name: str
    filled: int
    different: int
    data_type: str
    has_negative: bool
    few_values: list[str] | None
    sample: list[str] | None
    numbers: int
    no_numbers: list[str] | None
    dates: int
    no_dates: list[str] | None

    @property
    def cause(self) -> Cause | None:
        """Why most values of a text column look like numbers or dates but are not; None if most do not."""
        sample = self.sample or [] if self.data_type == "text" else []
        found = Counter(of_value("numeric", text) or of_value("date", text) for text in sample)
        cause, times = found.most_common(1)[0] if found else (None, 0)
        return cause if times * 2 > len(sample) else None

    @property
    def almost(self) -> str | None:
        """Which values keep a text column from being numeric or a date, if at least four fifths of its values fit."""
        kinds = ("number", self.numbers, self.no_numbers), ("date", self.dates, self.no_dates)
        for kind, fit, others in kinds if self.data_type == "text" else ():
            if others and fit * 5 >= self.filled * 4 > 0:
                shown = ", ".join(f'"{value}"' for value in others[:SHOWN])
                more = " and others" if others[SHOWN:] else ""
                are = f"is not a {kind}" if len(others) == 1 else f"are not {kind}s"
                return f"{shown}{more} {are}, {counted(fit, 'other')} are, so it is declared as text. {MEND_FEW}"
        return None

    @property
    def is_never_negative(self) -> bool:
        """Whether it holds numbers, none of them negative."""
        return bool(self.filled) and self.data_type in {"int", "bigint", "numeric"} and not self.has_negative

    @property
    def names_things(self) -> bool:
        """Whether its type is one that keys have."""
        return self.data_type in {"text", "int", "bigint"}


@dataclass
class TableSeen:
    """A file, and what was found in it. `key` is empty if no columns tell its rows apart."""

    export: Export
    rows: int
    columns: list[ColumnSeen]
    key: tuple[str, ...] = ()
    references: str | None = None
    refers_by: str | None = None
    refers_to: str | None = None
    customers: bool = False
    label: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    """What was guessed, and values whose form the user should check or correct."""

    @property
    def name(self) -> str:
        """The name of the table, which is that of its file."""
        return self.export.table

    def column(self, name: str) -> ColumnSeen:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def always_filled(self) -> list[str]:
        """The columns besides the key that have a value in every row."""
        return [column.name for column in self.columns if column.filled == self.rows and column.name not in self.key]

    def closed_set(self, column: ColumnSeen) -> list[str]:
        """The values that a text column repeats; none if there are many, or if another month will have others."""
        repeated = column.data_type == "text" and 1 < column.different <= column.filled / 10
        values = column.few_values or [] if repeated and not column.cause else []
        no_set = [value for value in values if MONTH.search(value) or TEMPLATE.search(value)]  # dbt reads templates
        return [] if no_set else values

    @property
    def refers_to_lookup(self) -> bool:
        """Whether it references a lookup table by a column with few values: that says nothing about customers."""
        if self.refers_by is None or self.refers_by == self.refers_to or self.refers_by in self.key:
            return False
        return self.column(self.refers_by).few_values is not None

    @property
    def single_keys(self) -> list[str]:
        """The unique columns of a key's type: a measure is unique only by chance."""
        return [column.name for column in self.columns if column.names_things and column.different == self.rows > 0]


def look_at(connection: Connection, exports: Sequence[Export]) -> list[TableSeen]:
    """Copy the files into temporary tables, and find their columns, types, keys and references.

    Raises:
        DataRefused: PostgreSQL cannot read a file as CSV.
    """
    tables = [_seen(connection, export) for export in exports]
    shared = Counter(name for table in tables for name in table.single_keys)
    for table in tables:
        table.key = _key(connection, table, shared)
    found = [table for table in tables if table.key]
    find_references(connection, found)
    if found:
        _mark_customers(found)
    return tables


def _mark_customers(tables: Sequence[TableSeen]) -> None:
    """Mark the table to which most others refer; lookups do not count."""
    by_name = {table.name: table for table in tables}
    directly = Counter(table.references for table in tables if not table.refers_to_lookup)
    led = Counter(chain.from_iterable(_leads_to(table, by_name) for table in tables))
    first = max(tables, key=lambda table: (directly[table.name], led[table.name], table.rows))
    first.customers = True


def _leads_to(table: TableSeen, by_name: Mapping[str, TableSeen]) -> Iterator[str]:
    """The tables that a table leads to, directly and through others, without lookups."""
    while table.references and not table.refers_to_lookup:
        table = by_name[table.references]
        yield table.name


def _seen(connection: Connection, export: Export) -> TableSeen:
    names = column_names(export.header)
    table = sql.Identifier("pg_temp", export.table)
    columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in names)
    connection.execute(statement(__file__, "table").format(table=table, columns=columns))
    listed = identifiers(names)
    form = {"delimiter": sql.Literal(export.delimiter), "encoding": sql.Literal(export.encoding)}
    export.copy(connection, statement(__file__, "copy").format(table=table, names=listed, **form))
    notes = list(_without_total(connection, export, table))
    if export.encoding == OTHER_ENCODING:
        notes.append(
            f"{export.name} is not UTF-8, so it is declared as {OTHER_ENCODING}: see that letters like \u00e9 are right"
            " then, or declare another `encoding`"
        )
    rows = value(connection, sql.SQL("select count(*) from {}").format(table))
    seen = []
    for header, name in zip(export.header, names, strict=True):
        query = statement(__file__, "column").format(table=table, column=sql.Identifier(name))
        [found] = connection.execute(query).fetchall()
        seen.append(ColumnSeen(header, name, *found))
        if cause := seen[-1].cause:
            notes.append(f"{export.name}, {header}: {cause[0]}, so it is declared as text. {cause[1]}")
        elif almost := seen[-1].almost:
            notes.append(f"{export.name}, {header}: {almost}")
    return TableSeen(export, rows, seen, notes=notes)


def _without_total(connection: Connection, export: Export, table: sql.Identifier) -> Iterator[str]:
    """Delete a last line of totals, whose word, like `Total`, would make its column text; yield a note about it."""
    for row in connection.execute(statement(__file__, "last").format(table=table)).fetchall():
        fields = [value or "" for value in row]
        if any(is_total(fields, place) for place in range(len(fields))):
            connection.execute(statement(__file__, "without_last").format(table=table))
            yield f"{export.name}: {TOTAL_LINE[0]}, which `ingest` will refuse. {TOTAL_LINE[1]}"


def column_names(header: Sequence[str]) -> list[str]:
    """A plain, unique name for each column of a header."""
    names: list[str] = []
    for title in header:
        name = plain_name(title, "column")
        name = f"{name}_delivered" if name in OWN_COLUMNS else name
        taken = {*names, *(other for other in header if other != title)}
        names.append(next(free for free in chain([name], (f"{name}_{n}" for n in count(2))) if free not in taken))
    return names


def _key(connection: Connection, table: TableSeen, shared: Counter[str]) -> tuple[str, ...]:
    """The fewest columns, up to three, that tell rows apart; columns that are unique in other files too come first."""

    position = [column.name for column in table.columns].index

    def rank(name: str) -> tuple[int, bool, int]:
        return -shared[name], not LIKE_A_KEY.search(name), position(name)

    if table.single_keys:
        return (min(table.single_keys, key=rank),)
    may_be = [column for column in table.columns if column.names_things or column.data_type == "date"]
    full = sorted((column.name for column in may_be if column.filled == table.rows), key=rank)
    for length in (2, 3):
        for names in combinations(full[:SEARCHED], length):
            query = statement(__file__, "unique").format(table=sql.Identifier(table.name), columns=identifiers(names))
            if table.rows and value(connection, query):
                return tuple(sorted(names, key=position))
    return ()


def contract(tables: Sequence[TableSeen]) -> str:
    """The dbt sources file of tables that have a key, with their audits: templates/sources.yml filled in."""
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)  # noqa: S701 (YAML)
    environment.filters |= {"flow": _flow, "in_sql": in_sql}
    template = environment.from_string(TEMPLATE_OF_SOURCES.read_text(encoding="utf-8"))
    referred_first = sorted(tables, key=lambda table: table.references is not None)
    names = Counter[str]()

    def numbered(found: re.Match[str]) -> str:
        names[found[0]] += 1
        return found[0] if names[found[0]] == 1 else f"{found[0]}_{names[found[0]]}"

    # table order with item_count, and table order_item with count, would have audits of one name
    return re.sub(r"(?<= name: )audit_\w+", numbered, template.render(tables=referred_first, sql_words=SQL_WORDS))


def _flow(value: str | list[str]) -> str:
    """A text or a list on one line of YAML, in quotes where it must be."""
    style = None if "".join(value).isprintable() else '"'  # which escapes line breaks
    text = yaml.safe_dump([value], default_flow_style=True, default_style=style, allow_unicode=True, width=float("inf"))
    return str(text).strip()[1:-1]
