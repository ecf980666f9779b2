"""`verify`, `training-set`, `freeze` and `report`: what is made of published months."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from loader.cli.looking import Json
from loader.errors import WrongUsage
from loader.settings import load_settings

DATE = ["%Y-%m-%d"]


def verify(as_json: Json = False) -> None:
    """Prove that history is as it was written and that production follows from it; exit 1 where it does not."""
    from loader.cli import terminal
    from loader.database import open_database
    from loader.pipeline import ledger
    from loader.readers.verification import verify as verify_database

    with open_database(load_settings()).connect() as connection:
        verdicts = list(verify_database(connection)) if ledger.exists(connection) else []
    if as_json:
        terminal.print_json([asdict(verdict) for verdict in verdicts])
    else:
        terminal.show_verdicts(verdicts)
    if not all(verdict.sound for verdict in verdicts):
        raise typer.Exit(1)


def training_set(
    as_of: Annotated[dt.datetime, typer.Option(formats=DATE, help="Features as known on this date.")],
    label_as_of: Annotated[dt.datetime, typer.Option(formats=DATE, help="Labels as delivered on this date.")],
    out: Annotated[Path | None, typer.Option(help="The file, .csv or .parquet; CSV on stdout unless given.")] = None,
    columns: Annotated[str | None, typer.Option(help="These features and labels only, with commas between.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --out: what was written, as JSON on stdout.")] = False,
) -> None:
    """A training set: one row per customer known on a date, features as known then, and a later date's label."""
    from loader.cli import terminal
    from loader.database import open_database
    from loader.readers import training

    if as_json and out is None:
        raise WrongUsage("--json is for a training set that goes into a file: give --out too.")
    names = [name.strip() for name in columns.split(",") if name.strip()] if columns else []
    with open_database(load_settings()).connect() as connection:
        dates = as_of.date(), label_as_of.date()
        written = training.write(connection, *dates, names, out, sys.stdout)
    if as_json:
        terminal.print_json(asdict(written))
    else:
        where = f" in {out}" if out else ""
        terminal.err.print(f"{written.rows:,} customers, {len(written.columns)} columns{where}")


def freeze(
    as_of: Annotated[dt.datetime | None, typer.Argument(formats=DATE, help="A published date.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every published date, or with --drop every schema.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Take the schema away again; history stays.")] = False,
    as_json: Json = False,
) -> None:
    """Show a date's history as a schema like as_of_2024_01_31, with views named like the production tables.

    Code written for production runs on the past with: set search_path = as_of_2024_01_31, public.
    """
    from loader.cli import terminal
    from loader.contract.tables import load_contract
    from loader.database import open_database
    from loader.readers import freeze as schemas
    from loader.readers.published import find, published_months

    if (as_of is None) != every:
        raise WrongUsage("give a date, like 2024-01-31, or --all.")
    with open_database(load_settings()).connect() as connection:
        if drop:
            names = schemas.thaw(connection, as_of.date() if as_of else None)
        else:
            months = [find(connection, as_of.date())] if as_of else published_months(connection)
            names = [schemas.freeze(connection, load_contract(), month.as_of) for month in months]
    if as_json:
        terminal.print_json({"dropped" if drop else "frozen": names})
    else:
        for name in names:
            terminal.out.print(f"{name} dropped" if drop else f"{name}: set search_path = {name}, public")


def report(
    month: Annotated[str | None, typer.Argument(help="A published month, like 001, or its date.")] = None,
    index: Annotated[bool, typer.Option("--index", help="Write the list of all published months.")] = False,
    out: Annotated[Path | None, typer.Option(help="Another file than the one in reports.")] = None,
    as_json: Json = False,
) -> None:
    """Write what changed in a month as one HTML page, and say where it is; with --index, the list of all months."""
    from loader.cli import terminal
    from loader.readers.report import write_index, write_month

    if month is None and not index:
        raise WrongUsage("say which month, like `streamflow report 001`, or --index for the list of all.")
    results: dict[str, Any] = {}
    if month is not None:
        path, numbers, findings = write_month(load_settings(), month, out, indexed=index and out is None)
        results |= {"path": path, "report": asdict(numbers) | {"findings": [asdict(one) for one in findings]}}
    if index:
        path, entries = write_index(load_settings(), out if month is None else None)
        results |= {"index": path, "months": [entry | {"month": asdict(entry["month"])} for entry in entries]}
    if as_json:
        terminal.print_json(results)
    else:
        for name in ("path", "index"):
            if name in results:
                terminal.out.print(str(results[name]), markup=False)
