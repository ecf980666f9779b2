"""No dead end: after any command the next one works or names the command that does, and all agree on the state."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from tests.conftest import TABLES, Streamflow
from tests.files import copy_month, edit, set_value
from tests.pauses import PATIENCE, EndedBefore, paused
from tests.test_crashes import wait_until
from tests.test_gate import published

Step = Callable[[Streamflow, Path, Path], None]
"""Takes the command line of a database with January published, the months, and a folder to write to."""

REASON = ("--restate", "--reason", "corrected")


def refused(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """February comes with a bad value."""
    month = copy_month(months, "001", folder / "bad")
    set_value(month / "usage_agg_30d.csv", 3, "watch_hours_30d", "-1")
    assert streamflow("ingest", "001", "--data-dir", folder / "bad").code == 1


def corrected(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """February comes with one customer less. It is ingested, or refused because it is published, and then restated."""
    month = copy_month(months, "001", folder / "corrected")
    for table in TABLES:
        edit(month / f"{table}.csv", lambda rows: rows.__delitem__(8))
    result = streamflow("ingest", "001", "--data-dir", folder / "corrected")
    if result.code:
        named = "with other rows" in result.err or "--restate" in result.err
        assert named, result
        done_or_restored_first(streamflow, "ingest", "001", "--data-dir", folder / "corrected", *REASON)


def restated(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """January is restated."""
    month = copy_month(months, "000", folder / "restated")
    set_value(month / "usage_agg_30d.csv", 4, "watch_hours_30d", "7.25")
    done_or_restored_first(streamflow, "ingest", "000", "--data-dir", folder / "restated", *REASON)


def by_hand(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """Run `dbt build`, whatever staging holds."""
    streamflow.dbt("build")


def landed_and_built(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """February is landed and built by hand; if it was begun or published, landing does nothing or names what to do."""
    result = streamflow("land", "001", "--data-dir", months)
    assert result.code in {0, 1, 3}, result
    named = ("published already", "--restate", "streamflow abandon 001")
    assert result.code == 0 or any(words in result.err for words in named), result
    streamflow.dbt("build")


def forgotten(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """A customer is forgotten, a different one each time."""
    customer = streamflow.value("select max(user_id) from users")
    done_or_restored_first(streamflow, "forget", customer, "--reason", "asked")
    assert not streamflow.rows("select 1 from users_snapshots where user_id = %s", customer)


def given_up(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """February is given up, unless it is published."""
    result = streamflow("abandon", "001")
    why_not = ("never begun", "is published")
    assert result.code == 0 or any(reason in result.err for reason in why_not), result


def archived(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """January is archived, if February was built on it."""
    result = streamflow("archive", "--before", "2024-02-29", "--to", folder / "archive")
    assert result.code == 0 or "archive after the next month is published" in result.err, result


def brought_back(streamflow: Streamflow, months: Path, folder: Path) -> None:
    """What is archived comes back."""
    streamflow.ok("archive", "--restore")


def done_or_restored_first(streamflow: Streamflow, *arguments: str | Path) -> None:
    """Run a command. If it fails, it must ask for `archive --restore`, and work after that."""
    result = streamflow(*arguments)
    if result.code:
        assert "archive --restore" in result.err, result
        brought_back(streamflow, Path(), Path())
        streamflow.ok(*arguments)


def killed(point: str, *arguments: str) -> Step:
    """An ingest of February is killed at a point. If an earlier one wrote history, this one may have less to do."""

    def step(streamflow: Streamflow, months: Path, folder: Path) -> None:
        month = copy_month(months, "001", folder / f"killed_{point.replace(' ', '_')}")
        for table in TABLES:
            edit(month / f"{table}.csv", lambda rows: rows.__delitem__(4))
        restate = REASON if "2024-02-29" in published(streamflow) else ()
        brought_back(streamflow, months, folder)  # else the ingest ends before that point: see `corrected`
        got_far = streamflow.value("select count(*) > 0 from ops.history where as_of = '2024-02-29'")
        try:
            with paused(streamflow, point, "ingest", "001", "--data-dir", month.parent, *restate, *arguments) as run:
                run.process.kill()
                run.process.wait(PATIENCE)
        except EndedBefore:
            if not got_far:
                raise
        else:
            assert run.process.returncode == -signal.SIGKILL
        wait_until(streamflow, "select count(*) = 0 from pg_locks where locktype = 'advisory'")

    step.__name__ = f"killed at {point}"
    return step


STEPS: list[Step] = [
    refused, corrected, restated, by_hand, landed_and_built, forgotten, given_up, archived, brought_back,
    killed("landing"), killed("last history"), killed("last merge"), killed("published"), killed("verdicts"),
]  # fmt: skip
SHORT = {("killed at last history", "corrected")}
PAIRS = [
    pytest.param(
        (first, second), id=f"{first.__name__}, {second.__name__}",
        marks=() if (first.__name__, second.__name__) in SHORT else pytest.mark.long,
    )
    for first, second in product(STEPS, STEPS)
]  # fmt: skip


AGEING = (forgotten, archived, brought_back)
THREE = [
    pytest.param((landed_and_built, first, second), id=f"{first.__name__}, {second.__name__} of two months",
                 marks=pytest.mark.long)
    for first, second in product(STEPS, STEPS)
    if first in AGEING or second in AGEING
]  # fmt: skip
"""Pairs after a step that publishes February, so that January can be archived."""


@pytest.mark.parametrize("steps", [*PAIRS, *THREE])
def test_no_sequence_is_a_dead_end(january: Streamflow, months: Path, tmp_path: Path, steps: tuple[Step, ...]) -> None:
    for number, step in enumerate(steps):
        step(january, months, tmp_path / str(number))
        states = {month["as_of"]: month["state"] for month in january.ok("status", "--json").json}
        dates = january.rows("select as_of::text from published_months")
        assert {as_of for as_of, state in states.items() if state == "published"} == {as_of for (as_of,) in dates}
        assert january("verify").code == 0
        assert january("doctor").code == 0
    january.ok("ingest", "002", "--data-dir", months)
    assert published(january)[-1] == "2024-03-31"
    verdicts = january.ok("verify", "--json").json
    assert not [verdict for verdict in verdicts if "not finished" in verdict["finding"]]
    last = {month["state"] for month in january.ok("status", "--json").json if month["as_of"] in published(january)}
    assert last == {"published"}
