"""`archive`: old months out of the database into Parquet files, and back."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from loader.cli.terminal import Json, show
from loader.errors import WrongUsage
from loader.pipeline.progress import log
from loader.settings import expanded, load_settings
from loader.words import counted

DATE = ["%Y-%m-%d"]


def archive(
    dates: Annotated[
        list[dt.datetime] | None, typer.Argument(formats=DATE, help="With --restore: only these dates.")
    ] = None,
    before: Annotated[
        dt.datetime | None, typer.Option(formats=DATE, metavar="DATE", help="Archive the months before this date.")
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The folder for the files.")] = None,
    back: Annotated[bool, typer.Option("--restore", help="Bring archived months back.")] = False,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="With --restore: where the files are now.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Move old months of history into Parquet files, one per table and month, read back before the rows are deleted.

    With --restore, bring them back as they were.
    """
    from loader.upkeep import archive as archives

    if back == bool(before or to) or (not back and not (before and to)) or (not back and (dates or source)):
        raise WrongUsage(
            "say what to do: streamflow archive --before DATE --to FOLDER, or streamflow archive --restore."
        )
    settings = load_settings()
    if before and to:
        moves = archives.archive(settings, before.date(), expanded(to))
    else:
        moves = archives.restore(settings, [date.date() for date in dates or []], expanded(source) if source else None)
    done = []
    for one in moves:
        done.append(one)
        log.info(f"{one.as_of} {'restored from' if back else 'archived in'} {one.folder}: {counted(one.rows, 'row')}")
    show(as_json, done, f"{counted(len(done), 'month')} {'restored' if back else 'archived'}")
