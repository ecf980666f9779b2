"""Checks scripts in which ingests are cut off, repeated, restated and given up, against the model of the rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TABLES, Streamflow
from tests.fuzzing import fuzz
from tests.scripts import Files, Forget, Step, deliver, months
from tests.stops import POINTS, SAID, stopped
from tests.test_promises import DATES, Model, forget, history_is, production_is
from tests.test_sessions import said

REASON = ("--restate", "--reason", "it was wrong")
FINISH = ("run", "--select", "complete_months+")
ENDS = ("is published", "never begun", "was built on")
"""Why a month cannot be given up."""
WAITS = ("is unfinished", "the gate stays closed")
"""Why dbt by hand may fail: a month is half restated, or staging is empty."""


class CutOff(NamedTuple):
    """Where an ingest fails."""

    point: str
    tables: tuple[str, ...]


class Deliver(NamedTuple):
    """An ingest: a restatement if the month is published and `restate` is true."""

    number: int
    customers: dict[str, int]
    restate: bool = True
    cut_off: CutOff | None = None


class GiveUp(NamedTuple):
    """`streamflow abandon`."""

    number: int


class ByHand(NamedTuple):
    """dbt run by hand."""

    words: tuple[str, ...]


@st.composite
def scripts(draw: st.DrawFn) -> list[Deliver | GiveUp | Forget | ByHand]:
    """A month; then others, or the same anew, most of them cut off, some of them given up or built by hand."""
    script: list[Deliver | GiveUp | Forget | ByHand] = [Deliver(draw(st.integers(0, 2)), draw(months))]
    cut_offs = st.builds(
        CutOff, st.sampled_from(sorted(POINTS)), st.lists(st.sampled_from(TABLES), min_size=1, unique=True).map(tuple)
    )
    for _ in range(draw(st.integers(2, 6))):
        delivered = [step for step in script if isinstance(step, Deliver)]
        number = draw(st.sampled_from([delivered[-1].number, delivered[-1].number, 0, 1, 2]))
        match draw(st.sampled_from([*3 * ["cut off"], "whole", "again", "given up", "forgotten", "by hand"])):
            case "given up":
                script.append(GiveUp(number))
            case "forgotten":
                script.append(Forget(draw(st.sampled_from(sorted(delivered[0].customers)))))
            case "by hand":
                script.append(ByHand(draw(st.sampled_from([("build",), ("build", "--full-refresh"), FINISH]))))
            case "again":
                script.append(delivered[-1]._replace(cut_off=None))
            case how:
                rows = changed(draw, draw(st.sampled_from(delivered)).customers)
                restate = draw(st.sampled_from([True, True, True, False]))
                script.append(Deliver(number, rows, restate, draw(cut_offs) if how == "cut off" else None))
    return script


def changed(draw: st.DrawFn, customers: dict[str, int]) -> dict[str, int]:
    """Other customers: some change (by 84, in all tables but users and labels), some join, one may leave."""
    other = dict(customers)
    for name in draw(st.lists(st.sampled_from(sorted(other)), max_size=2, unique=True)):
        other[name] += draw(st.sampled_from([84, 1]))
    for letter in draw(st.lists(st.sampled_from("nopq"), max_size=2, unique=True)):
        other[f"customer-{letter}"] = draw(st.integers(0, 9))
    if len(other) > 6:
        other.pop(draw(st.sampled_from(sorted(other))))
    return dict(sorted(other.items()))


@dataclass
class Play:
    """A database, what it must hold, and the loads that were cut off: each may be published by a later command."""

    streamflow: Streamflow
    folder: Path
    model: Model = field(default_factory=Model)
    cut_off: dict[int, tuple[Step, Files]] = field(default_factory=dict)

    def take(self, step: Deliver | GiveUp | Forget | ByHand) -> str:
        """Do a step, and compare; returns what happened."""
        match step:
            case GiveUp():
                happened = self.give_up(step.number)
            case Forget():
                happened = forget(self.streamflow, step, self.model)
            case ByHand():
                result = self.streamflow.dbt(*step.words)
                assert result.success or any(reason in said(result) for reason in WAITS), said(result)
                happened = "by hand" if result.success else "by hand, and refused"
            case Deliver():
                happened = self.ingest(step)
        self.published_meanwhile()
        self.compare()
        return happened

    def ingest(self, step: Deliver, tries: int = 3) -> str:
        """Ingest a month, after giving up what the message names, if it names something."""
        restate = step.restate and step.number in self.model.published
        told = Step(step.number, step.customers, restate=restate)
        files = deliver(told, self.folder)
        words = ("ingest", str(step.number), "--data-dir", self.folder, *(REASON if restate else ()))
        with stopped(self.streamflow, *(step.cut_off or CutOff("merge", ()))):
            result = self.streamflow(*words)
        load = self.streamflow.value("select max(load_id) from ops.loads")
        self.published_meanwhile()
        if result.code == 3 and SAID in result.err:
            assert step.cut_off
            self.cut_off[load] = (told, files)
            return "cut off"
        if named := re.search(r"streamflow abandon (\d+)", result.err):
            assert result.code in {2, 3}, result
            assert tries, result
            self.give_up(int(named[1]))
            return self.ingest(step, tries - 1)
        expected = self.model.take(told, files, load)
        assert result.code == (1 if expected == "refused" else 0), (expected, step, result)
        return expected

    def give_up(self, number: int) -> str:
        """Give up a month; production follows, if it has to."""
        result = self.streamflow("abandon", str(number))
        assert result.code == 0 or any(reason in result.err for reason in ENDS), result
        if "production has yet to follow" in result.out:
            assert self.streamflow.dbt(*FINISH).success
        return "not given up" if result.code else "given up"

    def published_meanwhile(self) -> None:
        """Tell the model which of the loads that were cut off is published by now."""
        published = {load for (load,) in self.streamflow.rows("select load_id from ops.published")}
        for load in sorted(published.intersection(self.cut_off)):
            self.model.take(*self.cut_off.pop(load), load)

    def compare(self) -> None:
        """Compare all that `status` calls finished with the model."""
        shown = self.streamflow.ok("status", "--json", "--all").json
        unfinished = {one["as_of"] for one in shown if one["state"] == "not finished" or one["production_lags"]}
        dates = {date for (date,) in self.streamflow.rows("select as_of::text from published_months")}
        assert dates - unfinished == {DATES[number] for number in self.model.published} - unfinished
        history_is(self.streamflow, self.model, unfinished=unfinished)
        if not unfinished:
            production_is(self.streamflow, self.model)
        self.streamflow.ok("verify")


def play(script: Sequence[Deliver | GiveUp | Forget | ByHand], streamflow: Streamflow, folder: Path) -> list[str]:
    """Do step after step on an empty database, then give up all that is not finished; returns what happened."""
    at = Play(streamflow, folder / "data")
    streamflow.ok("init")
    happened = [at.take(step) for step in script]
    for number in (2, 1, 0):
        at.take(GiveUp(number))
    assert streamflow.dbt(*FINISH).success
    at.published_meanwhile()
    history_is(streamflow, at.model)
    production_is(streamflow, at.model)
    assert streamflow.dbt("run", "--select", "path:models/production", "--full-refresh").success
    production_is(streamflow, at.model)
    streamflow.ok("verify")
    return happened


ALL = {f"customer-{letter}": number for number, letter in enumerate("abcdefg")}
FEWER = {name: number for name, number in ALL.items() if name != "customer-e"}


@pytest.mark.long
def test_a_month_that_is_merged_and_not_entered_is_in_no_other_months_way(
    streamflow: Streamflow, tmp_path: Path
) -> None:
    """The first month's restatement is cut off, then the later month before it is published; the first one again."""
    restated = Deliver(0, FEWER, cut_off=CutOff("history", ("labels",)))
    later = Deliver(2, ALL, cut_off=CutOff("published", ()))
    happened = play([Deliver(0, ALL), restated, later, Deliver(0, ALL)], streamflow, tmp_path)
    assert happened == ["published", "cut off", "cut off", "unchanged"]
    assert streamflow.value("select count(*) from published_months") == 2


def test_a_late_month_and_a_newer_one_that_was_cut_off_are_taken_in_together(
    streamflow: Streamflow, tmp_path: Path
) -> None:
    """Somebody whom only the late month delivers gets its date: the newer month's history was built without them.

    They are in it once it is restated, from the same files; cut off before the last table, it is not published.
    """
    newer, again = (
        Deliver(2, ALL, cut_off=cut) for cut in (CutOff("merge", (*TABLES,)), CutOff("history", ("labels",)))
    )
    script = [Deliver(0, ALL), newer, Deliver(1, ALL | {"customer-n": 7}), again, Deliver(2, ALL)]
    happened = play(script, streamflow, tmp_path)
    assert happened == ["published", "cut off", "published", "cut off", "published"]
    assert streamflow.value("select count(*) from published_months") == 3


@pytest.mark.long
@fuzz(short=1, long=40, shrink=False)
@given(script=scripts())
def test_what_is_cut_off_ends_as_the_rules_say(
    new_database: Callable[[], Streamflow],
    tmp_path: Path,
    tally: Counter[str],
    script: list[Deliver | GiveUp | Forget | ByHand],
) -> None:
    for what in play(script, new_database(), tmp_path):
        tally[f"steps that were {what}"] += 1
    tally["scripts of ingests that were cut off"] += 1
