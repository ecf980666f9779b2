"""What a person sees: results on stdout, progress and complaints on stderr, colours and bars on a terminal only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from loader.deliveries import Problem
from loader.ingest import Outcome
from loader.rejects import Rejects

out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


class Quiet:
    """Progress that is not shown."""

    def step(self, name: str) -> None: ...

    def files(self, sizes: dict[str, int]) -> None: ...

    def advance(self, file: str, size: int) -> None: ...

    def node(self, unique_id: str, status: str) -> None: ...

    def close(self) -> None: ...


class Lines(Quiet):
    """Progress in a pipe: one line when a step begins and one when it has ended."""

    def __init__(self) -> None:
        self._step: tuple[str, float] | None = None
        self._nodes = 0

    def step(self, name: str) -> None:
        self.close()
        self._step, self._nodes = (name, time.perf_counter()), 0

    def files(self, sizes: dict[str, int]) -> None:
        err.print(f"landing {len(sizes)} files, {sum(sizes.values()) / 1e6:,.1f} MB")

    def node(self, unique_id: str, status: str) -> None:
        self._nodes += 1

    def close(self) -> None:
        if self._step is not None:
            name, start = self._step
            nodes = f", {self._nodes} dbt nodes" if self._nodes else ""
            err.print(f"{name}: {time.perf_counter() - start:.1f} s{nodes}")
            self._step = None


class Bars(Quiet):
    """Progress on a terminal: a bar per file while landing, then what dbt is at."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._done = {"test": 0, "model": 0}

    def files(self, sizes: dict[str, int]) -> None:
        self._show(TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        assert self._bars is not None
        self._tasks = {name: self._bars.add_task(name, total=size) for name, size in sizes.items()}

    def advance(self, file: str, size: int) -> None:
        assert self._bars is not None
        self._bars.advance(self._tasks[file], size)

    def step(self, name: str) -> None:
        self.close()
        if name != "landing":
            self._show(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            assert self._bars is not None
            self._tasks = {"dbt": self._bars.add_task(name, total=None)}

    def node(self, unique_id: str, status: str) -> None:
        kind = unique_id.split(".")[0]
        self._done[kind] = self._done.get(kind, 0) + 1
        if self._bars is not None:
            text = f"{self._done['test']} audits done, {self._done['model']} tables done"
            self._bars.update(self._tasks["dbt"], description=text)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _show(self, *columns: Any) -> None:
        self.close()
        self._bars = Progress(*columns, console=err, transient=True)
        self._bars.start()


def progress(*, quiet: bool) -> Quiet:
    """The progress that suits where stderr goes."""
    if quiet:
        return Quiet()
    return Bars() if err.is_terminal else Lines()


def show_outcome(outcome: Outcome) -> None:
    """The summary of a month that was taken, or found to be there already."""
    out.print(f"[bold green]{escape(outcome.message)}[/] in {outcome.timings['total']:.1f} s")
    if outcome.counts:
        out.print(_counts(outcome))
    if outcome.audits:
        passed, warned = len(outcome.audits_that("pass")), len(outcome.audits_that("warn"))
        out.print(f"audits: {passed} passed, {warned} warned")
    show_problems(outcome.warnings)
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.timings.items() if name != "total")
    out.print(f"time: {steps}")
    out.print(f"database: {escape(outcome.uri)}\n  open it: make psql (or: streamflow db psql)")


def _counts(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    names = ("delivered", "inserted", "updated", "unchanged", "carried_forward")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for count in outcome.counts:
        table.add_row(count.table, *(f"{getattr(count, name):,}" for name in names))
    return table


def show_refusal(outcome: Outcome) -> None:
    """What is wrong with a refused month: the first problems, and where all of them are."""
    err.print(f"[bold red]{escape(outcome.message)}[/]")
    assert outcome.rejects is not None
    show_problems(outcome.rejects.first, console=err)
    left = outcome.rejects.count - len(outcome.rejects.first)
    if left:
        err.print(f"  ... and {left:,} more")
    err.print(f"all of them: {escape(str(outcome.rejects.path))}")


def show_problems(problems: Iterable[Problem], console: Console = out, most: int = 20) -> None:
    """Problems as aligned rows: where, column, value, why, and the audit that found it."""
    rows = [
        (
            f"{problem.file}:{problem.line}" if problem.line else problem.file,
            problem.column or "",
            json.dumps(problem.value, ensure_ascii=False) if problem.value is not None else "",
            problem.reason + (f"  [{problem.audit}]" if problem.audit else ""),
        )
        for problem, _ in zip(problems, range(most), strict=False)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for row in rows:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False) if width)
        console.print(f"  {escape(cells)}  {escape(row[3])}", soft_wrap=True)


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as plain values."""
    plain = asdict(outcome)
    plain["rejects"] = _rejects_json(outcome.rejects)
    return plain


def _rejects_json(rejects: Rejects | None) -> dict[str, Any] | None:
    return None if rejects is None else {**asdict(rejects), "path": str(rejects.path)}


def show_months(months: list[dict[str, Any]]) -> None:
    """The months known: a row each, then the hashes of their files."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("month", "as of", "state", "attempts", "rows", "audits", "audited with"):
        table.add_column(name, justify="right" if name in {"attempts", "rows"} else "left")
    for month in months:
        state = month["state"]
        if month["last_attempt"] not in {state, "unchanged"}:
            state += f" (last attempt {month['last_attempt']})"
        rows = sum(file["rows"] for file in month["files"])
        audits = f"{month['audits_passed']} passed, {month['audits_warned']} warned"
        audits += f", {month['audits_failed']} failed" if month["audits_failed"] else ""
        table.add_row(
            month["month"], str(month["as_of"]), state, str(month["attempts"]), f"{rows:,}", audits,
            month["versions"].get("audited_with", ""),
        )  # fmt: skip
    out.print(table)
    for month in months:
        out.print(f"\n{month['month']}  {month['as_of']}")
        for file in month["files"]:
            out.print(f"  {file['sha256'][:16]}  {file['rows']:>10,} rows  {file['bytes']:>12,} bytes  {escape(file['file'])}")
