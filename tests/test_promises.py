"""Checks order, repetition, history, restatement and refusal against a short model of the rules."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

import pytest
from hypothesis import given

from loader.settings import Settings
from tests.conftest import TABLES, Streamflow
from tests.fuzzing import fuzz
from tests.scripts import Archive, Files, Forget, Row, Step, deliver, scripts

DATES = {number: str(Settings().as_of(number)) for number in range(6)}


class Model:
    """What streamflow promises, in a few lines.

    `published` has the form and the rows of each month and table, `history` the state of each table and month, and
    `built` the load that built each of these states.
    """

    def __init__(self) -> None:
        self.published: dict[int, dict[str, tuple[str, dict[str, Row]]]] = {}
        self.history: dict[str, dict[int, dict[str, tuple[int, Row]]]] = {table: {} for table in TABLES}
        self.built: dict[str, dict[int, int]] = {table: {} for table in TABLES}
        self.forgotten = set[str]()

    def known(self, table: str, until: int) -> dict[str, tuple[int, Row]]:
        """Customer -> the newest row in the deliveries for months up to `until`, and its month."""
        state: dict[str, tuple[int, Row]] = {}
        for number in sorted(number for number in self.published if number <= until):
            state |= {customer: (number, row) for customer, row in self.published[number][table][1].items()}
        return state

    def take(self, step: Step, files: Files, load: int) -> Literal["published", "unchanged", "refused"]:
        """The outcome that an ingest must have. Changes the model if the ingest publishes."""
        before = self.published.get(step.number)
        files = {table: {key: rows[key] for key in rows.keys() - self.forgotten} for table, rows in files.items()}
        same = before is not None and all(before[table][1] == files[table] for table in TABLES)
        if step.defects or (before is not None and not same and not step.restate):
            return "refused"
        delivered = {table: (step.form, files[table]) for table in TABLES}
        outdated = {table for table in TABLES if step.restate and self.is_outdated(table, step.number)}
        if before is not None and (not step.restate or (delivered == before and not outdated)):
            return "unchanged"
        self.published[step.number] = delivered
        for table in TABLES:
            if before is None or delivered[table] != before[table] or table in outdated:
                self.history[table][step.number] = self.known(table, step.number)
                self.built[table][step.number] = load
        return "published"

    def is_outdated(self, table: str, number: int) -> bool:
        """Whether an earlier month came or was restated after the state of this one was built."""
        built = self.built[table]
        return any(built[earlier] > built.get(number, 0) for earlier in built if earlier < number)

    def forget(self, customer: str) -> None:
        """Take a customer out of everything, for good."""
        self.forgotten.add(customer)
        for delivered in self.published.values():
            for _, rows in delivered.values():
                rows.pop(customer, None)
        for months in self.history.values():
            for state in months.values():
                state.pop(customer, None)


def compare(streamflow: Streamflow, model: Model, archived: set[str]) -> None:
    """Assert that production and history are as the model says. History has no rows of archived dates."""
    production_is(streamflow, model)
    history_is(streamflow, model, archived)


def production_is(streamflow: Streamflow, model: Model) -> None:
    """Assert that production has exactly the rows of the model, with their dates."""
    for table in TABLES:
        production = streamflow.rows(f"select {columns(streamflow, table)}, observed_as_of::text from {table}")
        assert sorted(production) == sorted(
            (customer, *row, DATES[number]) for customer, (number, row) in model.known(table, 99).items()
        ), table


def history_is(
    streamflow: Streamflow, model: Model, archived: Collection[str] = (), unfinished: Collection[str] = ()
) -> None:
    """Assert that history has exactly the rows of the model, with their dates; none of archived dates. What it has of
    unfinished dates is not compared."""
    for table in TABLES:
        history = streamflow.rows(
            f"select {columns(streamflow, table)}, observed_as_of::text, as_of::text from {table}_snapshots"
        )
        assert sorted(row for row in history if row[-1] not in unfinished) == sorted(
            (customer, *row, DATES[number], DATES[as_of])
            for as_of, state in model.history[table].items()
            if DATES[as_of] not in {*archived, *unfinished}
            for customer, (number, row) in state.items()
        ), table


def columns(streamflow: Streamflow, table: str) -> str:
    """The columns that the made-up files have, as text."""
    rows = streamflow.rows(
        "select column_name from information_schema.columns where table_schema = 'public' and table_name = %s"
        " and column_name not like 'add_on%%' and column_name <> 'observed_as_of' order by ordinal_position",
        table,
    )
    return ", ".join(f"{name}::text" for (name,) in rows)


def reported(path: str) -> set[tuple[str, int]]:
    """The files and lines in a rejects file."""
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return {(row["file"], int(row["line"] or 0)) for row in csv.DictReader(stream)}


def customers(letters: str, first: int) -> dict[str, int]:
    """Customers by letter, each with a value of its own, counted from `first`."""
    return {f"customer-{letter}": number for number, letter in enumerate(letters, first)}


SCRIPT = [
    Step(2, customers("abcdefgh", 10)),
    Step(0, customers("bcdefghij", 30)),
    Step(1, customers("acdefgk", 50), "gzip"),
    Step(0, customers("bcdefghij", 30)),
    Step(2, customers("abcdefg", 70)),
    Step(1, customers("acdefghl", 90), restate=True),
    Step(2, customers("abcdefgh", 10), restate=True),
    Step(2, customers("abcdefgh", 10), restate=True),
]
"""The newest month first, then an early one, then the one between them; one again, one with other rows, one restated.
At last the newest month again, to be built on the months that came and were restated since.

Customers come, go and come back, and every month has other values.
"""


def test_a_script_ends_as_the_rules_say(streamflow: Streamflow, tmp_path: Path) -> None:
    """The short run's script is written down: the first that hypothesis tries has months in order and equal rows."""
    outcomes = play(SCRIPT, streamflow, tmp_path)
    assert outcomes == [*3 * ["published"], "unchanged", "refused", "published", "published", "unchanged"]


@pytest.mark.long
@fuzz(short=1, long=40, shrink=False)
@given(script=scripts())
def test_every_script_ends_as_the_rules_say(
    new_database: Callable[[], Streamflow], tmp_path: Path, tally: Counter[str], script: list[Step]
) -> None:
    for outcome in play(script, new_database(), tmp_path):
        tally[f"months that were {outcome}"] += 1
    tally["scripts of months"] += 1


def move(streamflow: Streamflow, step: Archive, folder: Path, archived: set[str]) -> str:
    """Archive or restore months, which may be refused; changes `archived`."""
    words = ("--restore",) if step.before is None else ("--before", DATES[step.before], "--to", folder)
    result = streamflow("archive", *words, "--json")
    assert result.code in {0, 2}, (step, result)
    moved = {month["as_of"] for month in result.json} if result.code == 0 else set()
    archived.symmetric_difference_update(moved)
    return "moved" if moved else "not moved"


def forget(streamflow: Streamflow, step: Forget, model: Model) -> str:
    """Forget a customer, which may be refused; changes the model."""
    result = streamflow("forget", step.customer, "--reason", "they asked for it")
    is_refused = result.code == 2 or "streamflow archive --restore" in result.err
    assert result.code == 0 or is_refused, (step, result)
    if result.code == 0:
        model.forget(step.customer)
    return "not forgotten" if result.code else "forgotten"


def play(script: Sequence[Step | Archive | Forget], streamflow: Streamflow, tmp_path: Path) -> list[str]:
    """Do step after step on an empty database, and compare with the model each time; returns the outcomes.

    An ingest that needs an archived month is refused, and changes nothing.
    """
    model, outcomes, archived = Model(), list[str](), set[str]()
    streamflow.ok("init")
    for place, step in enumerate(script):
        if isinstance(step, Archive):
            folder = Path(mkdtemp(dir=tmp_path))  # all examples share tmp_path
            outcomes.append(move(streamflow, step, folder, archived))
            compare(streamflow, model, archived)
            continue
        if isinstance(step, Forget):
            outcomes.append(forget(streamflow, step, model))
            compare(streamflow, model, archived)
            continue
        files = deliver(step, tmp_path / "data")
        was_published = step.number in model.published
        reason = ["--restate", "--reason", "it was wrong"] if step.restate else []
        result = streamflow("ingest", str(step.number), "--data-dir", tmp_path / "data", "--json", *reason)
        if archived and result.code in {2, 3} and "streamflow archive --restore" in result.err:
            outcomes.append("waiting for an archived month")
            compare(streamflow, model, archived)
            continue
        outcomes.append(expected := model.take(step, files, place))
        assert result.code == (1 if expected == "refused" else 0), (step, result)
        assert result.json["state"] == expected, step
        if step.defects and not was_published:
            found = reported(result.json["rejects"]["path"])
            for defect in step.defects:
                assert any(file == defect.file and defect.line in {0, line} for file, line in found), (defect, found)
        compare(streamflow, model, archived)
    streamflow.ok("verify")
    assert streamflow.dbt("run", "--select", "complete_months+", "--full-refresh").success
    compare(streamflow, model, archived)
    streamflow.ok("archive", "--restore")
    compare(streamflow, model, set())
    streamflow.ok("verify")
    return outcomes
