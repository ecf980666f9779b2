"""History refuses changes, and a checksum reveals a change that somebody forced."""

from __future__ import annotations

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


def test_verify_finds_nothing_on_sound_tables(march: Streamflow) -> None:
    verdicts = march.ok("verify", "--json").json
    assert len(verdicts) == len(TABLES) * 4 + 1, "and the chain"
    assert all(verdict["sound"] for verdict in verdicts)
    assert "all 25 are sound" in march.ok("verify").out


def test_verify_finds_a_change_behind_its_back_and_accuses_no_other_table(january: Streamflow) -> None:
    partition = "history.payments_agg_90d_2024_01_31"
    with january.connection.transaction():
        january.connection.execute(f"alter table {partition} disable trigger user".encode())
        january.connection.execute(
            f"update {partition} set failed_payments_90d = null"
            f" where user_id = (select max(user_id) from {partition} where failed_payments_90d is not null)".encode()
        )
        january.connection.execute(f"alter table {partition} enable trigger user".encode())
    result = january("verify", "--json")
    assert result.code == 1
    wrong = [(verdict["table"], verdict["as_of"]) for verdict in result.json if not verdict["sound"]]
    assert ("payments_agg_90d", "2024-01-31") in wrong
    assert {table for table, _ in wrong} == {"payments_agg_90d"}
