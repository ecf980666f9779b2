"""`migrate`, `abandon`, `archive` and `forget`: occasional work on a database."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from loader.cli.loading import DATE, AsOf, DryRun, Month
from loader.cli.terminal import Json, show
from loader.errors import WrongUsage
from loader.pipeline.progress import log
from loader.project import expanded
from loader.settings import load_settings
from loader.words import counted

Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; the ledger keeps it, so do not name the customer.")]


def migrate(dry_run: DryRun = False, as_json: Json = False) -> None:
    """Change the tables after a column got a wider type or another name in the declaration: docs/changes.md."""
    from loader import api

    done = api.migrate(dry_run=dry_run)
    if not done.changes:
        show(as_json, done, "the tables have the columns that are declared: nothing to do")
        return
    lines = [*done.changes, f"history: {counted(done.rows, 'row')}, in {counted(done.dates, 'partition')}"]
    if done.views:
        lines.append(f"views that are recreated: {', '.join(done.views)}")
    if done.done:
        lines.append("marts follow with the next ingest, or now: streamflow dbt run --select config.materialized:view")
    if done.left_to_dbt:
        lines.append(f"views missing until then, because they do not fit the new type: {', '.join(done.left_to_dbt)}")
    if done.manifest:
        lines.append(f"manifest: {done.manifest}")
    show(as_json, done, "migrated:" if done.done else "would be migrated:", *(f"  {line}" for line in lines))


def abandon(month: Month = None, as_of: AsOf = None, as_json: Json = False) -> None:
    """Give up a month that was begun and is not published.

    If the month was being restated, the history published before is valid again.
    """
    from loader import api

    if month is None:
        raise WrongUsage("give the number of a month: `streamflow status` has those that are not finished.")
    done = api.abandon_month(month, as_of.date() if as_of else None)
    show(as_json, done, done.message)


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
    """Move old months of history into Parquet files, one per table and month.

    With --restore, bring them back as they were.
    """
    from loader.upkeep import archive as archives

    done = []
    if back and not (before or to):
        did, where = "restored", "from"
        moves = archives.restore(load_settings(), [*map(dt.datetime.date, dates or ())], source and expanded(source))
    elif before and to and not (back or dates or source):
        did, where = "archived", "in"
        moves = archives.archive(load_settings(), before.date(), expanded(to))
    else:
        raise WrongUsage(
            "say what to do: streamflow archive --before DATE --to FOLDER, or streamflow archive --restore."
        )
    for one in moves:
        done.append(one)
        log.info(f"{one.as_of} {did} {where} {one.folder}: {counted(one.rows, 'row')}")
    show(as_json, done, f"{counted(len(done), 'month')} {did}")


def forget(
    customers: Annotated[list[str] | None, typer.Argument(help="The customers, as in the files.")] = None,
    reason: Reason = "",
    listed: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A file with more of them, one per line.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete customers from production, history, replaced rows, staging and rejects, and keep them out for good.

    Delete them yourself from files, backups, exports and the tables of your own models: docs/operations.md.
    """
    from loader.upkeep.forget import forget as forgotten

    wanted = [*(customers or []), *(_lines(listed) if listed else [])]
    if not wanted or not reason.strip():
        raise WrongUsage('name who is to be forgotten, and why: streamflow forget CUSTOMER --reason "...".')
    done = forgotten(load_settings(), wanted, reason.strip())
    again = f"; {done.before:,} had been forgotten before" if done.before else ""
    lines = [f"{counted(done.customers, 'customer')} forgotten, {counted(done.rows, 'row')} of theirs deleted{again}"]
    if done.manifest:
        lines.append(f"manifest: {done.manifest}")
    if done.left_alone:
        lines.append(f"left alone, because their rows belong to no customer: {', '.join(done.left_alone)}")
    if done.rejects:
        lines.append(f"rejects files deleted: {done.rejects}")
    show(as_json, done, *lines)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}.") from None
    if "\0" in text:
        raise WrongUsage(f"{path} is not UTF-8: is it a list of customers, one per line?")
    return [line for line in text.splitlines() if line.strip()]
