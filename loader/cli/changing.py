"""`migrate` and `abandon`: tables that follow a changed declaration, and a month that is given up."""

from __future__ import annotations

from typing import Annotated

import typer

from loader.cli.loading import AsOf, Month
from loader.cli.terminal import Json, show
from loader.delivery import find_delivery, parse_month
from loader.errors import WrongUsage
from loader.settings import load_settings
from loader.words import counted

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be changed, and change nothing.")]


def migrate(dry_run: DryRun = False, as_json: Json = False) -> None:
    """Change the tables after a column got a wider type or another name in the declaration: docs/changes.md.

    In one transaction: history is proved by its checksums first, and gets new ones; views on it are made anew.
    """
    from loader.upkeep.migrate import migrate as migrated

    done = migrated(load_settings(), dry_run=dry_run)
    if not done.changes:
        show(as_json, done, "the tables have the columns that are declared: nothing to do")
        return
    lines = [*done.changes, f"history: {counted(done.rows, 'row')}, in {counted(done.dates, 'partition')}"]
    if done.views:
        lines.append(f"views that are made anew: {', '.join(done.views)}")
    if done.done:
        lines.append("marts follow with the next ingest, or now: streamflow dbt run --select config.materialized:view")
    if done.left_to_dbt:
        lines.append(f"not there until then, as they did not suit the new type: {', '.join(done.left_to_dbt)}")
    if done.manifest:
        lines.append(f"manifest: {done.manifest}")
    show(as_json, done, "migrated:" if done.done else "would be migrated:", *(f"  {line}" for line in lines))


def abandon(month: Month = None, as_of: AsOf = None, as_json: Json = False) -> None:
    """Give up a month that was begun and is not published: the database becomes what it was before.

    If a published month was being restated, what was published comes back.
    """
    from loader.upkeep.abandon import abandon as abandoned

    if month is None:
        raise WrongUsage("say which month, by its number: `streamflow status` has those that are not finished.")
    delivery = find_delivery(load_settings(), parse_month(month), as_of=as_of.date() if as_of else None)
    done = abandoned(load_settings(), delivery)
    show(as_json, done, done.message)
