"""`history`, `diff`, `training-set`, `freeze` and `report`: the commands that read published months."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from loader.cli.terminal import Json, show, table
from loader.contract.tables import load_contract
from loader.database import open_database
from loader.errors import WrongUsage
from loader.pipeline.progress import log
from loader.readers import freeze as schemas
from loader.readers import lookups, training
from loader.readers.lookups import RowOverTime, TableDifference
from loader.readers.published import find, published_months, undisturbed
from loader.settings import load_settings
from loader.words import counted, plain, printable

TableName = Annotated[str | None, typer.Option("--table", metavar="TABLE", help="Only this table.")]
ONE = "A published month by its number, like 001, or by its date, like 2024-02 or 2024-02-29."
Published = Annotated[str, typer.Argument(help=ONE)]
OneOrNone = Annotated[str | None, typer.Argument(help=ONE)]


def history(
    customer: Annotated[
        str, typer.Argument(help="The customer, as in the files; a key of several columns with commas between.")
    ],
    table_name: TableName = None,
    as_json: Json = False,
) -> None:
    """Show one customer over time: what each table's history holds on each date, and what changed.

    For a table whose rows belong to no customer, give --table and the key of a row.
    """
    tables = [table for table in lookups.chosen(table_name) if table_name or table.customer]
    with open_database(load_settings()).connect() as connection, undisturbed(connection, tables):
        found = lookups.customer(connection, customer, tables)
        gone = [month for month in published_months(connection) if month.archived_in]
    lines = [line for row in found for line in _over_time(row)]
    lines += [f"not shown, as it is archived in {month.archived_in}: {month.as_of}" for month in gone]
    archived = [{"as_of": month.as_of, "folder": month.archived_in} for month in gone]
    show(as_json, {"customer": customer, "tables": found, "archived": archived}, *lines)


def _over_time(row: RowOverTime) -> Iterator[RenderableType]:
    """The row's first state, then its changes: one line per date."""
    yield Text.assemble((row.table, "bold"), "" if row.states else ": no row on any date")
    before: dict[str, Any] = {}
    for state in row.states:
        if not before:
            said = ", ".join(f"{name} {_word(value)}" for name, value in state.values.items())
        else:
            changes = (f"{name} {_word(before[name])} -> {_word(state.values[name])}" for name in state.changed)
            said = "; ".join(changes) or "as before"
        said += "" if state.delivered else f" (carried forward from {state.observed_as_of})"
        yield Text(f"  {state.as_of}  {said}", overflow="fold")
        before = state.values


def _word(value: Any) -> str:
    """A value as text: null and booleans as in SQL, and nothing that controls the terminal."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else printable(plain(value))


def diff(
    first: Published,
    second: Published,
    table_name: TableName = None,
    rows: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="How many rows to show of each table.")] = 5,
    as_json: Json = False,
) -> None:
    """Compare two published months: counts of changed rows and columns, and some changed rows as old -> new."""
    tables = lookups.chosen(table_name)
    with open_database(load_settings()).connect() as connection, undisturbed(connection, tables):
        old, new = find(connection, first), find(connection, second)
        found = [lookups.difference(connection, old.as_of, new.as_of, table, rows) for table in tables]
    sides = [{"month": month.month, "as_of": month.as_of} for month in (old, new)]
    names = ["table", "rows old", "rows new", "old only", "new only", "equal", "different"]
    counts = ([t.table, t.first_rows, t.second_rows, t.only_first, t.only_second, t.equal, t.different] for t in found)
    title = f"{old.month} (as of {old.as_of}) -> {new.month} (as of {new.as_of})"
    changes = [line for one in found if one.different for line in _changes(one)]
    show(as_json, {"first": sides[0], "second": sides[1], "tables": found}, title, table(names, counts), *changes)


def _changes(one: TableDifference) -> Iterator[RenderableType]:
    columns = sorted(((count, name) for name, count in one.columns.items() if count), reverse=True)
    counts = ", ".join(f"{name} {count:,}" for count, name in columns)
    yield Text.assemble((f"\n{one.table}: ", "bold"), counts, overflow="fold")
    for sample in one.samples:
        pairs = (f"{name} {_word(old)} -> {_word(new)}" for name, (old, new) in sample["changes"].items())
        key = sample["key"] if isinstance(sample["key"], list) else [sample["key"]]
        yield Text(f"  {_asked(key)}  {'; '.join(pairs)}", overflow="fold")


def _asked(key: Sequence[Any]) -> str:
    """A row's key as `history` takes it: a key of several columns as in a CSV file."""
    if len(key) == 1:
        return _word(key[0])
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(map(_word, key))
    return line.getvalue()


def training_set(
    as_of: Annotated[str, typer.Option(metavar="MONTH", help="Features as known then: 001, 2024-02 or 2024-02-29.")],
    label_as_of: Annotated[
        str | None,
        typer.Option(metavar="MONTH", help="Labels as delivered then; needed if there are labels."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file, .csv or .parquet; without it, CSV on stdout.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these features and labels, with commas between.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --out: what was written, as JSON on stdout.")] = False,
) -> None:
    """Write a training set: one row per customer known on a date, with features of that date.

    The label is of that date or a later one.
    """
    if as_json and out is None:
        raise WrongUsage("--json is for a training set that goes into a file: give --out too.")
    tables = load_contract()
    if any(table.has_label for table in tables) is (label_as_of is None):
        raise WrongUsage(
            "--label-as-of is missing: give the month of the labels, the same as --as-of or a later one."
            if label_as_of is None
            else "no column is declared with `label: true`, so omit --label-as-of."
        )
    names = [] if columns is None else [name.strip() for name in columns.split(",")]
    with open_database(load_settings()).connect() as connection, undisturbed(connection, tables):
        date, label_date = find(connection, as_of).as_of, find(connection, label_as_of or as_of).as_of
        written = training.write(connection, tables, date, label_date, names, out)
    what = f"{counted(written.rows, 'customer')}, {counted(len(written.columns), 'column')}"
    log.info(f"{what}{f' in {out}' if out else ''}")
    show(as_json, written)


def freeze(
    month: OneOrNone = None,
    every: Annotated[bool, typer.Option("--all", help="Every published month.")] = False,
    as_json: Json = False,
) -> None:
    """Show a month's history as a schema like as_of_2024_01_31, with views named like the production tables.

    `drop schema as_of_2024_01_31 cascade` removes the schema and what others built on it; history stays.
    """
    if (month is None) != every:
        raise WrongUsage("give a month, like 001, or --all.")
    with open_database(load_settings()).connect() as connection:
        months = published_months(connection) if month is None else [find(connection, month)]
        here = [each.as_of for each in months if each.archived_in is None]
        names = [schemas.freeze(connection, load_contract(), date) for date in here]
    show(as_json, {"frozen": names}, *(f"{name}: set search_path = {name}, public" for name in names))


def report(
    month: OneOrNone = None,
    index: Annotated[bool, typer.Option("--index", help="Write the list of all published months.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this file, not to the one in reports.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write what changed in a month as an HTML page, and print its path; with --index, the list of all months."""
    from loader.readers.report import write_index, write_month

    if month is None and not index:
        raise WrongUsage("give a month, like `streamflow report 001`, or --index for the list of all.")
    results: dict[str, Any] = {}
    if month is not None:
        path, numbers, findings = write_month(load_settings(), month, out)
        results |= {"path": path, "report": {**vars(numbers), "findings": findings}}
    if index:
        path, entries = write_index(load_settings(), out if month is None else None)
        results |= {"index": path, "months": entries}
    show(as_json, results, *(str(results[name]) for name in ("path", "index") if name in results))
