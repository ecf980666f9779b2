"""`ingest`, `land`, `check`, `status` and `verify`: load a month into its tables, show its state, and prove it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from loader.cli import summaries, terminal
from loader.cli.terminal import Json, show
from loader.database import open_database
from loader.delivery import Delivery, find_delivery, months_in, parse_month, parse_months
from loader.delivery.month import is_address, redacted
from loader.delivery.waiting import parse_patience
from loader.errors import ModelsFailed, StreamflowError, WrongUsage
from loader.pipeline.outcome import Outcome, Refused, Request
from loader.project import expanded
from loader.settings import load_settings

DATE = ["%Y-%m-%d"]
ONE = "The month by its number, like 001, or by its date, like 2024-02."
SEVERAL = f"{ONE[:-1]}; or the first and the last of several, like 000..011."
Month = Annotated[str | None, typer.Argument(help=ONE)]
Months = Annotated[str | None, typer.Argument(help=SEVERAL)]
DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir", metavar="FOLDER", help="The folder of months, or its address, like s3://bucket/exports."
    ),
]
Wait = Annotated[
    str | None, typer.Option(metavar="TIME", help="How long to wait for a month that is not there yet, like 6h.")
]
AsOf = Annotated[
    dt.datetime | None,
    typer.Option(formats=DATE, metavar="DATE", help="The month's date, if it is not its last day."),
]
Force = Annotated[bool, typer.Option("--force", help="Audit and build again even if the month is already published.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
Restate = Annotated[bool, typer.Option("--restate", help="Replace a published month, and keep what is replaced.")]
Manifest = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A copy of ops.chain kept elsewhere: compared, and extended if all is sound."),
]
Waive = Annotated[
    list[str] | None,
    typer.Option(metavar="AUDIT", help="An audit that only warns for this month; may be repeated."),
]
Reason = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Why a month is restated or an audit waived; the ledger keeps it."),
]
Hashes = Annotated[bool, typer.Option("--hashes", help="Also show each file's size and the start of its SHA-256.")]
Every = Annotated[bool, typer.Option("--all", help=f"Show all months, not only the newest {summaries.ON_A_SCREEN}.")]

NOTHING = "nothing to verify: no month has any history yet"


def ingest(
    month: Months = None,
    data_dir: DataDir = None,
    as_of: AsOf = None,
    force: Force = False,
    dry_run: DryRun = False,
    restate: Restate = False,
    waive: Waive = None,
    reason: Reason = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Land a month's files, audit them, and publish them: all tables or none. Without a month, name the available ones.

    Several months are published one after another. The first month that is refused or fails ends the command.
    """
    waivers = _waivers(restate, waive, reason)
    deliveries = _deliveries(month, data_dir, as_of, several=True)
    if len(deliveries) > 1 and (restate or waive or as_of is not None):
        raise WrongUsage("--restate, --waive and --as-of are for one month: give its number alone.")
    if dry_run and waive:
        raise WrongUsage("--dry-run audits nothing, so there is nothing to waive: `streamflow check` takes --waive.")
    request = Request("ingest", force, reason if restate else None, waivers, parse_patience(wait))
    (_plan if dry_run else _run)(request, deliveries, as_json)


def land(
    month: Month = None,
    data_dir: DataDir = None,
    as_of: AsOf = None,
    force: Force = False,
    restate: Restate = False,
    waive: Waive = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Only copy a month's files into staging; `dbt build` then audits and publishes the month."""
    request = Request("land", force, reason if restate else None, _waivers(restate, waive, reason))
    _run(request, _deliveries(month, data_dir, as_of), as_json)


def check(
    month: Month = None,
    data_dir: DataDir = None,
    as_of: AsOf = None,
    waive: Waive = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Land and audit a month, and report what is wrong with it; publish nothing."""
    request = Request("check", waive=_waivers(False, waive, reason))
    _run(request, _deliveries(month, data_dir, as_of), as_json)


def status(hashes: Hashes = False, every: Every = False, as_json: Json = False) -> None:
    """Show what is left to do, and the known months with their state, rows and audits."""
    from loader.readers import month_states

    with open_database(load_settings()).connect() as connection:
        months = month_states.months(connection)
        lines = list(month_states.headlines(connection, months))
    if months:
        show(as_json, months, *lines, *summaries.known(months, every=every, hashes=hashes))
    else:
        show(as_json, months, "no month yet: streamflow ingest 000")


def verify(manifest: Manifest = None, as_json: Json = False) -> None:
    """Prove that history is as it was written, and that production follows from it; exit 1 if not."""
    from loader import api

    verdicts = api.verify(manifest=manifest)
    wrong = sum(not verdict.sound for verdict in verdicts)
    rows = [[one.table, one.as_of or one.about, one.rows, one.finding] for one in verdicts]
    unseen = sum(not verdict.seen for verdict in verdicts)
    last = f"{wrong} of {len(verdicts)} differ" if wrong else f"all {len(verdicts) - unseen} are sound"
    if unseen:
        last += f"; archived files not checked, because their folder cannot be reached from here: {unseen}"
    shown = terminal.table(["table", "as of", "rows", "verdict"], rows)
    show(as_json, verdicts, *((shown, last) if verdicts else (NOTHING,)))
    if wrong:
        raise typer.Exit(1)


def _waivers(restate: bool, waive: Sequence[str] | None, reason: str | None) -> dict[str, str]:
    """The audits to waive, with the reason. Require a reason exactly if something needs one."""
    given = reason if reason and reason.strip() else None
    if waive and given is None:
        raise WrongUsage('--waive needs --reason "...": say why the rows are let through.')
    if restate and given is None:
        raise WrongUsage('--restate needs --reason "...": say why a published month is replaced.')
    if given and not (restate or waive):
        raise WrongUsage("--reason explains --restate or --waive: give one of them, or omit --reason.")
    return dict.fromkeys(waive or [], given or "")


def _deliveries(
    text: str | None, data_dir: str | None, as_of: dt.datetime | None, *, several: bool = False
) -> list[Delivery]:
    settings = load_settings()
    if text is None:
        folder = data_dir or settings.data_dir
        if is_address(folder):
            raise WrongUsage(f"give the number of a month of {redacted(str(folder))}, like 001.")
        folder = expanded(Path(folder))
        there = ", ".join(months_in(folder)) or "no month"
        raise WrongUsage(f"give the number of a month: {folder} has {there}.")
    months = parse_months(text) if several else [parse_month(text)]
    return [find_delivery(settings, month, data_dir, as_of.date() if as_of else None) for month in months]


def _run(request: Request, deliveries: Sequence[Delivery], as_json: bool) -> None:
    """Ingest, land or check months, show how each ended, and exit with the code of what failed."""
    from loader.pipeline.ingest import run_months
    from loader.readers.after_publish import after_publish

    several = len(deliveries) > 1
    progress = terminal.progress(quiet=as_json)
    outcomes: list[Outcome] = []
    ended: StreamflowError | None = None

    def tell(outcome: Outcome) -> None:
        progress.close()
        if not as_json:
            show(as_json, outcome, *summaries.outcome(outcome, brief=several))
        after_publish(load_settings(), outcome)
        _tell_failed(outcome)

    try:
        for outcome in run_months(load_settings(), request, deliveries, progress, tell):
            outcomes.append(outcome)
    except StreamflowError as error:
        progress.close()
        outcomes.append(_told(error, request, deliveries[len(outcomes)], outcomes))
        ended = error
    finally:
        progress.close()
    untried = [delivery.label for delivery in deliveries[len(outcomes) :]]
    if as_json or several:
        show(as_json, outcomes if several else outcomes[0], *summaries.several(outcomes, untried))
    if ended or any(outcome.failed for outcome in outcomes):
        raise typer.Exit(ended.exit_code if ended else ModelsFailed.exit_code)


def _tell_failed(outcome: Outcome) -> None:
    """Report what failed after the month was published: models, tests, or what settings ask for."""
    if outcome.failed:
        message = "the month is published, but this failed; the same command tries it again"
        failed = [node for node in outcome.failed if node.status != "skipped"]
        lines = [f"  {node}" for node in failed or outcome.failed]
        if skipped := len(outcome.failed) - len(lines):
            lines.append(f"  skipped, as they are built on these: {skipped}")
        terminal.complain(message, lines, month=outcome.month)


def _told(error: StreamflowError, request: Request, delivery: Delivery, before: Sequence[Outcome]) -> Outcome:
    """Report why a month failed, and return its outcome. If it is the first and was not refused, raise the error."""
    if isinstance(error, Refused):
        rejects = error.rejects
        more = {"month": error.outcome.month, "problems": rejects.count, "rejects": rejects.path}
        terminal.complain(str(error), rejects.as_lines(), event="refused", **more)
        return error.outcome
    if not before:
        raise error
    terminal.complain(str(error), month=delivery.label)
    uri, seconds = before[-1].uri, {"total": 0.0}
    return Outcome(request.command, delivery.label, delivery.as_of, "failed", uri, str(error), timings=seconds)


def _plan(request: Request, deliveries: Sequence[Delivery], as_json: bool) -> None:
    from loader.readers.plan import plan_month

    plans = [plan_month(load_settings(), request, delivery) for delivery in deliveries]
    lines = [line for plan in plans for line in summaries.plan(plan)]
    show(as_json, plans if len(plans) > 1 else plans[0], *lines)
    if any(plan.problems for plan in plans):
        raise typer.Exit(1)
