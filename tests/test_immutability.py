"""History refuses to be changed, and a checksum tells when somebody managed to."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.conftest import TABLES, Streamflow

CHANGES = (
    "update {} set observed_as_of = '2020-01-01' where user_id = (select min(user_id) from {})",
    "update {} set observed_as_of = observed_as_of where false",
    "delete from {}",
    "truncate {}",
    "insert into {} select * from {}",
)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", ["public.labels_snapshots", "history.labels_2024_01_31"])
def test_history_refuses_every_change(january: Streamflow, change: str, table: str) -> None:
    if change.endswith("where false") and january.on_citus:
        pytest.skip("no node is asked to change nothing")
    before = january.state()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="stays as it was written"):
        january.connection.execute(change.format(table, table).encode())
    assert january.state() == before


def test_verify_finds_nothing_on_sound_tables(january: Streamflow, months: Path) -> None:
    for month in ("002", "001"):
        january.ok("ingest", month, "--data-dir", months)
    verdicts = january.ok("verify", "--json").json
    assert len(verdicts) == len(TABLES) * 4 + 1, "and the chain"
    assert all(verdict["sound"] for verdict in verdicts)
    assert "all 25 are sound" in january.ok("verify").out


@pytest.mark.parametrize(
    "change",
    [
        "update {} set failed_payments_90d = failed_payments_90d + 1 where user_id = (select min(user_id) from {})",
        "update {} set failed_payments_90d = null where user_id = (select max(user_id) from {})",
        "delete from {} where user_id = (select max(user_id) from {})",
        "update {} as a set failed_payments_90d = b.failed_payments_90d + 1 from {} as b where a.user_id = b.user_id",
    ],
)
def test_verify_finds_what_was_changed_behind_its_back(january: Streamflow, change: str) -> None:
    partition = "history.payments_agg_90d_2024_01_31"
    with january.connection.transaction():
        january.connection.execute(f"alter table {partition} disable trigger user".encode())
        january.connection.execute(change.format(partition, partition).encode())
        january.connection.execute(f"alter table {partition} enable trigger user".encode())
    result = january("verify", "--json")
    assert result.code == 1
    wrong = [(verdict["table"], verdict["as_of"]) for verdict in result.json if not verdict["sound"]]
    assert ("payments_agg_90d", "2024-01-31") in wrong
    assert {table for table, _ in wrong} == {"payments_agg_90d"}


def test_verify_finds_a_partition_put_in_place_of_another(january: Streamflow) -> None:
    if january.on_citus:
        pytest.skip("a partition is attached to a distributed table in other words")
    january.connection.execute(
        "alter table labels_snapshots detach partition history.labels_2024_01_31;"
        "create table forged as select * from history.labels_2024_01_31;"
        "update forged set churn_label = not churn_label;"
        "alter table forged alter as_of set not null, alter user_id set not null, alter observed_as_of set not null;"
        "alter table labels_snapshots attach partition forged for values in ('2024-01-31')"
    )
    result = january("verify", "--json")
    assert result.code == 1
    wrong = [(verdict["table"], verdict["as_of"]) for verdict in result.json if not verdict["sound"]]
    assert ("labels", "2024-01-31") in wrong


def test_verify_compares_production_with_history(january: Streamflow) -> None:
    january.connection.execute(
        "update labels set churn_label = not churn_label where user_id = (select min(user_id) from users)"
    )
    result = january("verify")
    assert result.code == 1
    assert "rows that differ from what history says: 1" in result.out
    assert january.dbt("build", "--full-refresh").success
    assert january("verify").code == 0
