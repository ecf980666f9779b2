"""`history` and `diff`: what the tables say, for a person at the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from loader.cli import completion
from loader.settings import load_settings

DATES_ABREAST = 5

TableName = Annotated[
    str | None,
    typer.Option("--table", help="Only this table.", show_default=False, autocompletion=completion.tables),
]
Published = typer.Argument(help="A published month, like 001.", autocompletion=completion.published)
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]


def history(
    user_id: Annotated[str, typer.Argument(metavar="USER_ID", help="The customer, as in the files.")],
    table: TableName = None,
    as_json: Json = False,
) -> None:
    """One customer over time: what each table's history holds on each date, and what changed."""
    from loader.cli import terminal
    from loader.database import open_database
    from loader.readers import lookups

    tables = lookups.chosen(table)
    with open_database(load_settings()).connect() as connection:
        found = lookups.customer(connection, user_id, tables)
    if as_json:
        listed = [{"table": name, "states": [asdict(state) for state in states]} for name, states in found.items()]
        terminal.print_json({"user_id": user_id, "tables": listed})
        return
    for name, states in found.items():
        terminal.out.print(f"[bold]{escape(name)}[/]" + ("" if states else ": no row on any date"))
        for start in range(0, len(states), DATES_ABREAST):
            terminal.out.print(_dates(states[start : start + DATES_ABREAST]))
    terminal.out.print("* differs from the date before; (date): not delivered, carried forward from that delivery")


def _dates(states: list[Any]) -> Table:
    shown = _plain("as of", *(str(state.as_of) for state in states))
    delivered = ("delivered" if state.delivered else f"({state.observed_as_of})" for state in states)
    shown.add_row("observed as of", *delivered)
    for name in states[0].values:
        shown.add_row(name, *(_cell(state.values[name], changed=name in state.changed) for state in states))
    return shown


def _cell(value: Any, *, changed: bool) -> Text:
    return Text(f"*{_word(value)}" if changed else _word(value), style="bold yellow" if changed else "")


def _word(value: Any) -> str:
    """A value as psql would show it, but null by name and nothing that steers the terminal."""
    from loader.landing import printable

    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else printable(str(value))


def _plain(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def diff(
    first: Annotated[str, Published],
    second: Annotated[str, Published],
    table: TableName = None,
    rows: Annotated[int, typer.Option("--rows", min=0, help="How many rows to show of each table.")] = 5,
    as_json: Json = False,
) -> None:
    """What differs between two published months: rows and columns counted, and some rows, old -> new."""
    from loader.cli import terminal
    from loader.database import open_database
    from loader.readers import lookups, published

    tables = lookups.chosen(table)
    with open_database(load_settings()).connect() as connection:
        months = [published.find(connection, text) for text in (first, second)]
        found = lookups.difference(connection, months[0].as_of, months[1].as_of, tables, rows)
    if as_json:
        sides = [{"month": month.month, "as_of": month.as_of} for month in months]
        terminal.print_json({"first": sides[0], "second": sides[1], "tables": [asdict(one) for one in found]})
        return
    terminal.out.print(" -> ".join(f"{month.month} (as of {month.as_of})" for month in months))
    counts = _plain("table")
    for name in ("rows old", "rows new", "old only", "new only", "equal", "different"):
        counts.add_column(name, justify="right")
    for one in found:
        numbers = (one.first_rows, one.second_rows, one.only_first, one.only_second, one.equal, one.different)
        counts.add_row(one.table, *(f"{number:,}" for number in numbers))
    terminal.out.print(counts)
    for one in found:
        for line in _changes(one):
            terminal.out.print(line, soft_wrap=True)


def _changes(one: Any) -> Iterator[Text]:
    if not one.different:
        return
    changed = sorted(((n, name) for name, n in one.columns.items() if n), reverse=True)
    yield Text(f"\n{one.table}: ", style="bold") + Text(", ".join(f"{name} {n:,}" for n, name in changed), style="none")
    for sample in one.samples:
        pairs = (f"{name} {_word(old)} -> {_word(new)}" for name, (old, new) in sample["changes"].items())
        yield Text(f"  {_word(sample['key'])}  {'; '.join(pairs)}")
