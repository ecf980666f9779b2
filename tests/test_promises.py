"""The promises about order, history and production, against a short model of the rules in Python."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loader.settings import Settings
from tests.conftest import TABLES, Streamflow
from tests.files import write_month

Month = dict[str, int]
Known = dict[str, tuple[int, int]]
"""Customer -> the month of the newest delivery, and what it said."""

customers = st.sampled_from([f"customer-{letter}" for letter in "abcdefghijklm"])
# Six to nine of them: more than half as many again would be refused.
deliveries = st.dictionaries(customers, st.integers(0, 99), min_size=6, max_size=9)


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[int, Month]]:
    """Months in the order in which they are ingested: any order, with gaps."""
    numbers = draw(st.lists(st.integers(0, 5), min_size=2, max_size=4, unique=True))
    return [(number, draw(deliveries)) for number in numbers]


def newest(deliveries: dict[int, Month]) -> Known:
    """Each customer's newest row."""
    known: Known = {}
    for month in sorted(deliveries):
        known |= {customer: (month, value) for customer, value in deliveries[month].items()}
    return known


def expected(script: list[tuple[int, Month]]) -> tuple[Known, dict[int, Known]]:
    """Production, and history by month: what was known of the months up to it when it was ingested."""
    arrived: dict[int, Month] = {}
    history: dict[int, Known] = {}
    for number, month in script:
        arrived[number] = month
        history[number] = newest({n: m for n, m in arrived.items() if n <= number})
    return newest(arrived), history


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # an example takes seconds: show the first that fails, do not look for a shorter one
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(script=scripts())
def test_history_and_production_are_what_the_rules_say(
    new_database: Callable[[], Streamflow], tmp_path: Path, script: list[tuple[int, Month]]
) -> None:
    streamflow = new_database()
    data = tmp_path / "data"
    shutil.rmtree(data, ignore_errors=True)
    for number, month in script:
        write_month(data / f"month_{number:03d}", month)
        streamflow.ok("ingest", str(number), "--data-dir", data)

    production, history = expected(script)
    dates = {number: str(Settings().as_of(number)) for number in range(6)}
    for table, column in (("usage_agg_30d", "unique_devices_30d"), ("payments_agg_90d", "failed_payments_90d")):
        assert streamflow.rows(f"select user_id, observed_as_of::text, {column} from {table} order by 1") == sorted(
            (customer, dates[month], value) for customer, (month, value) in production.items()
        )
        assert streamflow.rows(
            f"select as_of::text, user_id, observed_as_of::text, {column} from {table}_snapshots order by 1, 2"
        ) == sorted(
            (dates[number], customer, dates[month], value)
            for number, known in history.items()
            for customer, (month, value) in known.items()
        )
    for table in TABLES:
        assert {row[0] for row in streamflow.table(table)} == set(production)
