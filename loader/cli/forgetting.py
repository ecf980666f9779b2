"""`forget`: a customer who must be in no table any more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loader.cli.terminal import Json, show
from loader.errors import WrongUsage
from loader.settings import load_settings
from loader.words import counted

Customers = Annotated[list[str] | None, typer.Argument(metavar="USER_ID", help="The customers, as in the files.")]
From = Annotated[Path | None, typer.Option("--from", metavar="FILE", help="A file with more of them, one per line.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; the ledger keeps it, so do not name the customer.")]


def forget(user_ids: Customers = None, reason: Reason = "", listed: From = None, as_json: Json = False) -> None:
    """Delete customers from production, history, replaced rows, staging and rejects, and keep them out for good.

    Files, backups, exports and your own models' tables are for you to clean: docs/operations.md.
    """
    from loader.upkeep.forget import forget as forgotten

    customers = [*(user_ids or []), *(_lines(listed) if listed else [])]
    if not customers or not reason.strip():
        raise WrongUsage('name who is to be forgotten, and why: streamflow forget USER_ID --reason "...".')
    done = forgotten(load_settings(), customers, reason.strip())
    again = f"; {done.before:,} had been forgotten before" if done.before else ""
    what = f"{counted(done.customers, 'customer')} forgotten, {counted(done.rows, 'row')} of theirs deleted{again}"
    lines = [f"manifest: {done.manifest}"] if done.manifest else []
    if done.left_alone:
        lines.append(f"left alone, as their rows are of no customer: {', '.join(done.left_alone)}")
    if done.rejects:
        lines.append(f"rejects files that named them: {done.rejects}")
    show(as_json, done, what, *lines)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise WrongUsage(f"{path} is not UTF-8: is it a list of customers, one per line?") from None
