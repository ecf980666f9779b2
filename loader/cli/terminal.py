"""What a person sees: results on stdout, progress and complaints on stderr, colours and bars on a terminal only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg.sql import Identifier
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table

from loader.cli import logs
from loader.delivery import Problem
from loader.landing import as_rows
from loader.pipeline.dbt import Node
from loader.pipeline.outcome import Outcome, Refused
from loader.pipeline.plan import Plan
from loader.pipeline.progress import Progress
from loader.readers.roles import RolesMade
from loader.readers.verification import Verdict

out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


class Lines(Progress):
    """Progress in a pipe: one line when a step has ended."""

    def __init__(self) -> None:
        self._step: tuple[str, float] | None = None
        self._nodes = 0

    def step(self, name: str) -> None:
        """Say how long the step before took."""
        self.close()
        self._step, self._nodes = (name, time.perf_counter()), 0

    def files(self, sizes: dict[str, int]) -> None:
        """Say how much is to be copied."""
        err.print(f"landing {len(sizes)} files, {sum(sizes.values()) / 1e6:,.1f} MB")

    def node(self, kind: str) -> None:  # noqa: ARG002
        """Count."""
        self._nodes += 1

    def close(self) -> None:
        """Say how long the last step took."""
        if self._step is not None:
            name, start = self._step
            nodes = f", {self._nodes} dbt node{'s' if self._nodes > 1 else ''}" if self._nodes else ""
            err.print(f"{name}: {time.perf_counter() - start:.1f} s{nodes}")
            self._step = None

    def tell(self, message: str) -> None:
        """Say it."""
        self.close()
        show_error(message)


class Bars(Progress):
    """Progress on a terminal: a bar per file while landing, then what dbt has done."""

    def __init__(self) -> None:
        self._bars = RichProgress(console=err)
        self._tasks: dict[str, TaskID] = {}
        self._done = {"test": 0, "model": 0}

    def step(self, name: str) -> None:
        """Show a clock for a step that has no bars."""
        self.close()
        self._done = {"test": 0, "model": 0}
        if name != "landing":
            self._show(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._tasks = {"dbt": self._bars.add_task(name, total=None)}

    def files(self, sizes: dict[str, int]) -> None:
        """Show a bar per file."""
        self._show(TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        self._tasks = {name: self._bars.add_task(name, total=size) for name, size in sizes.items()}

    def advance(self, file: str, size: int) -> None:
        """Move the file's bar."""
        self._bars.advance(self._tasks[file], size)

    def node(self, kind: str) -> None:
        """Show the counts."""
        self._done[kind] = self._done.get(kind, 0) + 1
        audits = f"{self._done['test']} audits done, " if self._done["test"] else ""
        text = f"{audits}{self._done['model']} tables done"
        self._bars.update(self._tasks["dbt"], description=text)

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()

    def _show(self, *columns: ProgressColumn) -> None:
        self.close()
        self._bars = RichProgress(*columns, console=err, transient=True)
        self._bars.start()


def progress(*, quiet: bool) -> Progress:
    """The progress that suits where stderr goes; a log collector is told in any case."""
    if logs.as_json():
        return logs.JsonLines()
    if quiet:
        return Progress()
    return Bars() if err.is_terminal else Lines()


def show_outcome(outcome: Outcome, *, brief: bool = False) -> None:
    """The summary of a month that was taken, or found to be there already; one line where it is one of several."""
    out.print(f"[bold green]{escape(outcome.message)}[/] in {outcome.timings['total']:.1f} s")
    show_failed(outcome.failed)
    if brief:
        show_problems(outcome.warnings)
        return
    if outcome.counts:
        out.print(_counts(outcome))
    if outcome.audits:
        passed, warned = len(outcome.audits_that("pass")), len(outcome.audits_that("warn"))
        out.print(f"audits: {passed} passed, {warned} warned")
    show_problems(outcome.warnings)
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.timings.items() if name != "total")
    out.print(f"time: {steps}")
    out.print(f"database: {escape(outcome.uri)}\n  open it: make psql (or: streamflow db psql)")


def show_failed(failed: Sequence[Node]) -> None:
    """The models and tests that failed after the month was published, and what to do."""
    if not failed:
        return
    err.print("[bold red]built on it, and failed:[/] the month stands; the same command builds only these again")
    for node in failed:
        err.print(f"  {escape(str(node))}", soft_wrap=True)


def show_months_done(outcomes: list[Outcome], untried: list[str]) -> None:
    """What became of several months: the rows of all six files together, and which months were not tried."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("month", "as of"):
        table.add_column(name, no_wrap=True)
    for name in (*COUNTED, "s"):
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True, vertical="bottom")
    for outcome in outcomes:
        sums = [f"{sum(getattr(count, name) for count in outcome.counts):,}" for name in COUNTED]
        seconds = f"{outcome.timings['total']:.1f}"
        table.add_row(
            outcome.month, str(outcome.as_of), *(sums if outcome.counts else [outcome.state] + [""] * 4), seconds
        )
    out.print(table)
    out.print(f"{len(outcomes)} months in {sum(outcome.timings['total'] for outcome in outcomes):.1f} s")
    if untried:
        out.print(f"not tried: {', '.join(untried)}")
    out.print(f"database: {escape(outcomes[-1].uri)}")


COUNTED = ("delivered", "inserted", "updated", "unchanged", "carried_forward")


def _counts(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    for name in COUNTED:
        table.add_column(name.replace("_", " "), justify="right")
    for count in outcome.counts:
        table.add_row(count.table, *(f"{getattr(count, name):,}" for name in COUNTED))
    return table


def show_refusal(refused: Refused) -> None:
    """What is wrong with a refused month: the first problems, and where all of them are."""
    if logs.as_json():
        month, path = refused.outcome.month, refused.rejects.path
        logs.write(
            "error", "refused", refused.outcome.message, month=month, problems=refused.rejects.count, rejects=path
        )
        return
    err.print(f"[bold red]{escape(refused.outcome.message)}[/]")
    for line in refused.rejects.as_lines():
        err.print(escape(line), soft_wrap=True)


def show_error(message: str) -> None:
    """One sentence and its remedy."""
    if logs.as_json():
        logs.write("error", "error", message)
        return
    err.print(f"[bold red]streamflow:[/] {escape(message)}", soft_wrap=True)


def show_problems(problems: Iterable[Problem]) -> None:
    """The first problems, a line each."""
    for line in as_rows(problems):
        out.print(f"  {escape(line)}", soft_wrap=True)


def show_plan(plan: Plan) -> None:
    """What an ingest would do."""
    out.print(f"month {plan.month}, as of {plan.as_of}, from {escape(plan.folder)}")
    out.print(f"would do: {plan.action}")
    for file in plan.files:
        out.print(f"  {file.sha256[:16]}  {file.bytes:>12,} bytes  {escape(file.file)}")
    show_problems(plan.problems)


def show_verdicts(verdicts: list[Verdict]) -> None:
    """What was found of each table and date, and a last line that sums it up."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("table", "as of", "rows", "verdict"):
        table.add_column(name, justify="right" if name == "rows" else "left")
    for verdict in verdicts:
        colour = "green" if verdict.sound else "red"
        as_of = str(verdict.as_of) if verdict.as_of else "production"
        table.add_row(verdict.table, as_of, f"{verdict.rows:,}", f"[{colour}]{escape(verdict.finding)}[/]")
    out.print(table)
    wrong = sum(not verdict.sound for verdict in verdicts)
    out.print(f"[bold red]{wrong} of {len(verdicts)} differ[/]" if wrong else f"all {len(verdicts)} are sound")


def show_months(months: list[dict[str, Any]]) -> None:
    """The months known: a row each, then the hashes of their files."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("month", "as of", "state", "rows", "audits", "dbt_expectations"):
        table.add_column(name, justify="right" if name == "rows" else "left", no_wrap=name != "state")
    for month in months:
        state = month["state"]
        if month["last_attempt"] not in {state, "unchanged"}:
            state += f", {month['last_attempt']} since"
        rows = sum(file["rows"] for file in month["files"])
        verdicts = {name: month[f"audits_{name}"] for name in ("passed", "warned", "failed")}
        audits = ", ".join(f"{count} {name}" for name, count in verdicts.items() if count or name == "passed")
        table.add_row(
            month["month"], str(month["as_of"]), state, f"{rows:,}", audits,
            month["versions"].get("audited_with", "").removeprefix("dbt_expectations "),
        )  # fmt: skip
    out.print(table)
    for month in months:
        if month["built_on_replaced"]:
            replaced = ", ".join(month["built_on_replaced"])
            out.print(f"{month['month']} was built on {replaced} as it was before it was restated")
    for month in months:
        out.print(f"\n{month['month']}  {month['as_of']}")
        for file in month["files"]:
            out.print(
                f"  {file['sha256'][:16]}  {file['rows']:>10,} rows  {file['bytes']:>12,} bytes  {escape(file['file'])}"
            )


def show_roles(made: RolesMade) -> None:
    """What became of the roles, and what is left to do."""
    for role in made.roles:
        passwords = {
            "set": f"with the password of STREAMFLOW_{role.purpose.upper()}_PASSWORD",
            "kept": "its password is as it was",
            "none": f"without a password; to set one, in psql: \\password {Identifier(role.role).as_string()}",
        }
        done = "created" if role.created else "up to date"
        out.print(f"{role.purpose} {escape(role.role)}: {done}, {escape(passwords[role.password])}")
    if made.handed_over:
        out.print(f"objects handed over to {escape(made.roles[0].role)}: {made.handed_over}")
    for note in made.notes:
        out.print(f"note: {escape(note)}")
