"""Summaries of months for the terminal: how they were ingested, what is planned, and which are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from loader.cli.terminal import table
from loader.refusals.rejects import Group, causes, grouped, listed
from loader.settings import load_settings
from loader.words import counted

if TYPE_CHECKING:
    from loader.delivery import Problem
    from loader.pipeline.outcome import Outcome
    from loader.readers.plan import Plan

COUNTED = ("delivered", "inserted", "updated", "unchanged", "carried_forward")
ON_A_SCREEN = 12
"""How many months `status` shows unless all are asked for."""


def outcome(done: Outcome, *, brief: bool) -> Iterator[RenderableType]:
    """The result of a month that was not refused; `brief` if it is one of several."""
    yield Text.assemble((done.message, "bold green"), f" ({done.timings['total']:.1f} s)")
    if done.counts and not brief:
        counts = map(attrgetter("table", *COUNTED), done.counts)
        yield table(["table", *(name.replace("_", " ") for name in COUNTED)], counts)
    if done.audits and not brief:
        yield f"audits: {len(done.audits_that('pass'))} passed, {len(done.audits_that('warn'))} warned"
    yield from (f"waived: {waiver}" for waiver in done.waivers)
    groups = _groups(done.warnings)
    yield from listed(groups, sum(group.count for group in groups) + done.more_warnings)
    if done.manifest:
        yield f"manifest: {done.manifest}"
    if not brief:
        steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in done.timings.items() if name != "total")
        yield f"time: {steps}"
        yield place(done.uri)


def place(uri: str) -> str:
    """Where the tables are. The embedded server's URI is long, so only `streamflow db uri` prints it."""
    return f"database: {'embedded' if load_settings().embedded else uri}; open it with: streamflow db psql"


def _groups(problems: Sequence[Problem]) -> list[Group]:
    """Problems of whole files, with the same problem of several files as one; then those of rows."""
    alike: dict[Problem, list[Problem]] = {}
    for problem in problems:
        if not problem.line:
            alike.setdefault(replace(problem, file="", audit=None), []).append(problem)
    of_files = []
    for first, *others in alike.values():
        files = ", ".join(dict.fromkeys([first.file, *(other.file for other in others)]))
        of_files.append(replace(first, file=files, audit=None) if others else first)
    of_rows = grouped(problem for problem in problems if problem.line)
    return [*(Group(one) for one in of_files), *of_rows]


def several(outcomes: Sequence[Outcome], untried: Sequence[str]) -> Iterator[RenderableType]:
    """The results of several months: rows summed over all tables, and which months were not tried."""
    rows = []
    for done in outcomes:  # no date, to fit into 80 columns: the lines above have it
        sums = [sum(getattr(count, name) for count in done.counts) if done.counts else "" for name in COUNTED]
        rows.append([done.month, done.state, *sums, f"{done.timings['total']:.1f}"])
    yield table(["month", "state", *(name.replace("_", "\n") for name in COUNTED), "s"], rows)
    yield f"{counted(len(outcomes), 'month')} in {sum(done.timings['total'] for done in outcomes):.1f} s"
    if untried:
        yield f"not tried: {', '.join(untried)}"
    yield place(outcomes[-1].uri)


def plan(planned: Plan) -> Iterator[RenderableType]:
    """What an ingest would do."""
    yield f"month {planned.month}, as of {planned.as_of}, from {planned.folder}\nwould do: {planned.action}"
    yield table(["file", "bytes", "sha256"], ([file.file, file.bytes, file.sha256[:16]] for file in planned.files))
    groups = grouped(planned.problems)
    yield from (f"  {line}" for line in causes(groups))
    yield from listed(groups, len(planned.problems))


def known(months: Sequence[dict[str, Any]], *, every: bool, hashes: bool) -> Iterator[RenderableType]:
    """The newest months in the ledger, or `every` one: a row each; with `hashes`, their files too."""
    shown = months if every else months[-ON_A_SCREEN:]
    yield table(["month", "as of", "state", "rows", "audits"], map(_known, shown))
    if earlier := len(months) - len(shown):
        yield f"and {counted(earlier, 'earlier month')}: streamflow status --all"
    for month in shown:
        if folder := month["archived_in"]:
            back = f"streamflow archive --restore {month['as_of']}"
            yield f"{month['month']} is archived in {folder}: {back} brings it back"
        if replaced := ", ".join(month["built_on_replaced"]):
            yield f"{month['month']} was built on {replaced} before that month was restated; --restate rebuilds it"
    if hashes:
        files = (
            [one["month"], file["file"], file["rows"], file["bytes"], file["sha256"][:16]]
            for one in shown
            for whole in one["files"]
            for file in whole.get("parts") or [whole]
        )
        yield "\nfiles:"
        yield table(["month", "file", "rows", "bytes", "sha256"], files)
        yield "\naudited with:"
        yield table(["month", "package"], ([one["month"], one["versions"].get("audited_with", "")] for one in shown))


def _known(month: dict[str, Any]) -> list[Any]:
    """Number, date, state, rows and audits of a month."""
    restated = ", restated" if month["state"] == "published" and month["restated_at"] else ""
    since = "" if month["last_attempt"] in {month["state"], "unchanged"} else f", {month['last_attempt']} since"
    verdicts = {name: month[f"audits_{name}"] for name in ("passed", "warned", "failed")}
    audits = ", ".join(f"{count} {name}" for name, count in verdicts.items() if count or name == "passed")
    if month["state"] == "published" and not any(verdicts.values()):
        audits = "not recorded"
    rows = [count["delivered"] for count in month["counts"]] or [file["rows"] for file in month["files"]]
    return [month["month"], month["as_of"], month["state"] + restated + since, sum(rows), audits]
