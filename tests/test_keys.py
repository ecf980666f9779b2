"""Another shop's tables: keys of other names and of several columns, references by other names, and a lookup."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loader.contract.tables import load_contract
from loader.errors import WrongUsage
from loader.project import SOURCES
from tests.conftest import Streamflow, run_copy
from tests.shop import (
    APRIL,
    FEBRUARY,
    FILES,
    JANUARY,
    MARCH,
    TABLES,
    Files,
    Shop,
    column,
    table,
    without,
    write_sources,
)


@pytest.fixture
def shop(copy: Path, streamflow: Streamflow, tmp_path: Path) -> Shop:
    """The copy of the project, with models for the tables of tests/shop.py only."""
    models = copy / "dbt_project" / "models"
    for folder in ("history", "production", "marts/latest"):
        shutil.rmtree(models / folder)
    for path in [*models.glob("marts/*.*"), models / "_exposures.yml"]:
        path.unlink()
    write_sources(models / "staging" / "_sources.yml", TABLES)
    made = Shop(copy, streamflow, tmp_path / "data")
    made("models")
    return made


@pytest.mark.long
def test_a_month_that_brings_a_parent_is_given_up_without_the_rows_that_refer_to_it(shop: Shop) -> None:
    """Without a month of its own, the parent is emptied, and what refers to it would be deleted too."""
    sources = shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    [invoices] = [one for one in TABLES if one["name"] == "invoices"]
    alone = json.loads(json.dumps(invoices))
    del alone["config"]["meta"]["references"], alone["columns"][0]["data_tests"]
    for folder in ("history", "production", "marts"):
        shutil.rmtree(shop.copy / "dbt_project" / "models" / folder)
    write_sources(sources, [alone])
    shop("models")
    shop.ingest(JANUARY, {"invoices": FILES[JANUARY]["invoices"]})
    before = shop.streamflow.rows("select * from invoices order by 1, 2")
    write_sources(sources, [one for one in TABLES if one["name"] in {"accounts", "invoices"}])
    shop("models", "invoices", "accounts", "accounts_snapshots", "latest_accounts", "training_set", "--overwrite")
    shop("land", shop.deliver(FEBRUARY, {name: FILES[FEBRUARY][name] for name in ("accounts", "invoices")}),
         "--data-dir", str(shop.data))  # fmt: skip
    shop("dbt", "build", "--exclude", "published+")
    assert shop.streamflow.value("select count(*) from accounts") == 4
    shop("abandon", "001")
    assert shop.streamflow.value("select count(*) from invoices") >= len(before)
    shop("dbt", "build", "--select", "complete_months+")
    assert shop.streamflow.rows("select * from invoices order by 1, 2") == before
    shop("verify")
    shop("ingest", "001", "--data-dir", str(shop.data))
    keys = "select count(*) from pg_constraint where conrelid = 'invoices'::regclass and contype = 'f'"
    assert shop.streamflow.on_citus or shop.streamflow.value(keys) == 1
    shop("verify")


@pytest.mark.long
def test_tables_of_somebody_else(shop: Shop, tmp_path: Path) -> None:
    twice = {**FILES[JANUARY], "invoices": [*FILES[JANUARY]["invoices"], "71,2,7"]}
    said = shop("check", shop.deliver(JANUARY, twice), "--data-dir", str(shop.data), code=1)
    assert "invoices.csv:5" in said, said
    assert "second row with these values of account_id, invoice_no, first on line 3" in said

    for as_of in (JANUARY, MARCH, FEBRUARY):
        shop.ingest(as_of, FILES[as_of])
    known = {JANUARY: [JANUARY], MARCH: [JANUARY, MARCH], FEBRUARY: [JANUARY, FEBRUARY]}
    shop.holds(FILES, known)
    foreign = shop.streamflow.rows(
        "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'payments'::regclass and contype = 'f'"
    )
    wanted = [("FOREIGN KEY (payer) REFERENCES accounts(account_id) ON DELETE CASCADE",)]
    assert foreign == ([] if shop.streamflow.on_citus else wanted), "a cluster spreads payments by another column"
    reads_well(shop, tmp_path / "set.csv")

    february = {**FILES[FEBRUARY], "invoices": ["account_id,invoice_no,amount", "71,2,9", "74,1,6"]}
    files: dict[str, Files] = {**FILES, FEBRUARY: february}
    shop.ingest(FEBRUARY, february, "--restate", "--reason", "other invoices")
    shop.holds(files, known)

    assert "cannot be a customer" in shop("forget", "72a", "--reason", "a typo", code=2)
    done = shop.json("forget", "072", "--reason", "they asked for it")
    assert (done["customers"], done["left_alone"]) == (1, ["countries"])
    files = without(files, "72", "9")
    shop.holds(files, known)
    april = {name: [*lines, *FILES[FEBRUARY][name][1:]] for name, lines in FILES[MARCH].items()}
    april |= {name: FILES[FEBRUARY][name] for name in ("accounts", "countries", "payments", "profiles")}
    files[APRIL] = without({APRIL: april}, "72", "")[APRIL]
    shop.ingest(APRIL, april)
    known[APRIL] = [JANUARY, FEBRUARY, MARCH, APRIL]
    shop.holds(files, known)
    shop("dbt", "build", "--full-refresh", "--quiet")
    shop.holds(files, known)

    other = with_meta(TABLES[1], primary_key=["account_id", "invoice_no", "amount"])
    sources = shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    write_sources(sources, [TABLES[0], other, *TABLES[2:]])
    again = ("ingest", "003", "--data-dir", str(shop.data), "--force")
    assert "production/invoices.yml: its unique_key is account_id, invoice_no" in shop(*again, code=2)
    shop("models", "--overwrite")
    assert (
        "the key account_id, invoice_no in the database, but is declared with account_id, invoice_no, amount"
        in shop(*again, code=2)
    )
    shop.holds(files, known)


@pytest.mark.long
def test_a_reference_that_is_no_longer_declared_deletes_nothing_and_goes_with_the_next_month(shop: Shop) -> None:
    """Payments then name no customer, so they are left alone when one is forgotten."""
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    for as_of in (JANUARY, FEBRUARY):
        shop.ingest(as_of, FILES[as_of])
    declare_payments(shop, refer=False)
    before = shop.streamflow.table("payments")
    said = shop("forget", "72", "--reason", "they asked for it", code=3)
    assert "`alter table payments drop constraint payments_payer_fkey` in psql" in said
    march = {**FILES[MARCH], "payments": ["payment_no,payer,paid", "5,99,1"]}
    shop("check", shop.deliver(MARCH, march), "--data-dir", str(shop.data))
    shop.ingest(MARCH, march)
    assert shop.streamflow.value(KEYS_OF_PAYMENTS) == 0
    assert shop.json("forget", "72", "--reason", "they asked for it")["left_alone"] == ["countries", "payments"]
    assert set(before) <= set(shop.streamflow.table("payments"))
    shop("verify")


@pytest.mark.long
def test_a_table_and_the_reference_to_it_are_no_longer_declared(shop: Shop) -> None:
    """Before, every month ended in an error of SQL."""
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    lookup = json.loads(json.dumps(TABLES[2]))
    lookup["config"]["meta"]["references"] = {"table": "countries", "columns": ["country"]}
    lookup["columns"] = [column("payment_no", "int", "unique"), column("country", "text"), column("paid", "numeric")]
    sources = shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    write_sources(sources, [TABLES[0], TABLES[1], lookup, *TABLES[3:]])
    shop("models", "payments", "payments_snapshots", "training_set", "--overwrite")
    paid = {"payments": ["payment_no,country,paid", "7,DE,1", "8,FR,2"]}
    shop.ingest(JANUARY, {**FILES[JANUARY], **paid})
    assert shop.streamflow.value(KEYS_OF_PAYMENTS) == 1
    del lookup["config"]["meta"]["references"]
    write_sources(sources, [TABLES[1], lookup, *TABLES[3:]])
    for path in (shop.copy / "dbt_project" / "models").rglob("*countries*"):
        path.unlink()
    shop("models")
    shop("models", "payments", "payments_snapshots", "training_set", "--overwrite")
    files = {**FILES[FEBRUARY], "payments": ["payment_no,country,paid", "8,nowhere,3"]}
    del files["countries"]
    shop.ingest(FEBRUARY, files)
    assert shop.streamflow.value(KEYS_OF_PAYMENTS) == 0
    assert shop.streamflow.rows("select country from payments order by payment_no") == [("DE",), ("nowhere",)]
    shop("verify")


@pytest.mark.long
def test_a_numeric_key_in_other_digits_is_the_same_key(shop: Shop) -> None:
    """Production keeps the digits of the first delivery, and `verify` does not call that a difference."""
    declared = {**TABLES[2], "columns": [column("payment_no", "numeric", "unique"), *TABLES[2]["columns"][1:]]}
    sources = shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    write_sources(sources, [*TABLES[:2], declared, *TABLES[3:]])
    shop("models", "payments", "payments_snapshots", "--overwrite")
    paid = "payment_no,payer,paid"
    shop.ingest(JANUARY, {**FILES[JANUARY], "payments": [paid, "7.0,71,1", "8.50,72,2"]})
    shop.ingest(FEBRUARY, {**FILES[FEBRUARY], "payments": [paid, "7,71,1.0", "8.5,72,0.0000001"]})
    [_, payment] = shop.json("history", "72", "--table", "payments")["tables"][0]["states"]
    assert payment["values"]["paid"] == "0.0000001", "as PostgreSQL shows it"
    assert "paid 2 -> 0.0000001" in shop("history", "72", "--table", "payments")
    for _ in range(2):
        assert shop.rows("payments") == [("7.0", "71", "1.0", FEBRUARY), ("8.50", "72", "0.0000001", FEBRUARY)]
        shop("verify")
        shop("dbt", "build", "--full-refresh")


@pytest.mark.long
def test_a_new_reference_that_other_months_break_names_them(shop: Shop) -> None:
    """Without an audit of it, `check` refuses this month's rows too."""
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    declare_payments(shop, refer=False)
    shop.ingest(JANUARY, {**FILES[JANUARY], "payments": ["payment_no,payer,paid", "1,99,1", "2,99,1", "3,71,2"]})
    declare_payments(shop, refer=True, audited=False)
    shop.deliver(FEBRUARY, FILES[FEBRUARY])
    for command in ("check", "ingest"):
        said = shop(command, "001", "--data-dir", str(shop.data), code=1)
        assert "rows of payments that would match no row of accounts by payer: 2, delivered on 2024-01-31" in said
    declare_payments(shop, refer=False)
    shop.ingest(JANUARY, FILES[JANUARY], "--restate", "--reason", "payments of nobody")
    declare_payments(shop, refer=True, audited=False)
    shop.deliver(FEBRUARY, {**FILES[FEBRUARY], "payments": ["payment_no,payer,paid", "1,99,1"]})
    for command in ("check", "ingest"):
        said = shop(command, "001", "--data-dir", str(shop.data), code=1)
        assert "rows of payments that match no row of accounts by payer: 1. " in said
    shop.ingest(FEBRUARY, FILES[FEBRUARY])
    assert shop.streamflow.value(KEYS_OF_PAYMENTS) == 1
    declare_payments(shop, refer=False)
    shop.ingest(MARCH, FILES[MARCH])
    assert shop.streamflow.value(KEYS_OF_PAYMENTS) == 0
    declare_payments(shop, refer=True)
    shop.ingest(APRIL, FILES[MARCH])
    assert shop.streamflow.value(KEYS_OF_PAYMENTS) == 1
    assert shop.streamflow.value("select count(*) from pg_index where indrelid = 'payments'::regclass") == 2
    shop("verify")


@pytest.mark.parametrize("is_cut_off", [False, True])
@pytest.mark.long
def test_a_restatement_keeps_what_refers_to_rows_that_change_their_customer(shop: Shop, is_cut_off: bool) -> None:
    """The customer is gone, and their payment is somebody else's now: the refund of that payment stays. If the build
    ends before the refunds are rebuilt, the same month again rebuilds them."""
    refunds = table(
        "refunds",
        {"primary_key": "refund_no", "references": {"table": "payments", "columns": ["payment_no"]}},
        [column("refund_no", "int"), column("payment_no", "int")],
    )
    write_sources(shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml", [*TABLES, refunds])
    shop("models")
    shop("models", "training_set", "--overwrite")
    shop.ingest(JANUARY, {**FILES[JANUARY], "refunds": ["refund_no,payment_no", "1,8", "2,9"]})
    restated = {
        "accounts": ["account_id,country,churned", "71,DE,false", "72,DE,false"],
        "payments": ["payment_no,payer,paid", "7,,1", "8,71,10.5", "9,72,2"],
    }
    if is_cut_off:
        month = shop.deliver(JANUARY, restated)
        shop("land", month, "--data-dir", str(shop.data), "--restate", "--reason", "73 was 72")
        shop("dbt", "build", "--exclude", "refunds+")
        if not shop.streamflow.on_citus:  # a cluster spreads refunds by another column, so they have no foreign key
            assert shop.streamflow.rows("select refund_no from refunds") == [(1,)]
    shop.ingest(JANUARY, restated, "--restate", "--reason", "73 was 72")
    assert shop.streamflow.rows("select refund_no, payment_no from refunds order by 1") == [(1, 8), (2, 9)]
    shop("verify")


@pytest.mark.long
def test_a_restatement_that_takes_away_what_a_new_reference_needs_is_refused(shop: Shop) -> None:
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    declare_payments(shop, refer=False)
    shop.ingest(JANUARY, FILES[JANUARY])
    accounts = ["account_id,country,churned", "71,DE,false", "72,DE,false"]
    february = {"accounts": accounts, "payments": ["payment_no,payer,paid", "9,73,2"]}
    shop.ingest(FEBRUARY, {**FILES[JANUARY], **february})
    declare_payments(shop, refer=True, audited=False)
    month = shop.deliver(JANUARY, {"accounts": accounts, "payments": ["payment_no,payer,paid", "8,71,10.5"]})
    restate = ("ingest", month, "--data-dir", str(shop.data), "--restate", "--reason", "no 73")
    assert "rows of payments that would match no row of accounts by payer: 1, delivered on" in shop(*restate, code=1)
    shop("verify")


def refused_restatement(shop: Shop, as_of: str, files: Files, reason: str) -> None:
    """Assert that a restatement is refused because of payments that would name nobody, and that nothing has changed."""
    before = shop.rows("accounts"), shop.rows("payments")
    month = shop.deliver(as_of, files)
    said = shop("ingest", month, "--data-dir", str(shop.data), "--restate", "--reason", "x", code=1)
    assert f"rows of payments that would match no row of accounts by {reason}" in said
    assert (shop.rows("accounts"), shop.rows("payments")) == before
    shop("verify")


def test_a_restatement_that_brings_back_a_row_whose_parent_is_gone_is_refused(shop: Shop) -> None:
    """Payment 1 moved from 73 to 72 before January was restated without 73; gone from February, it is 73's again."""
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    declare_payments(shop, refer=True, audited=False)
    shop.ingest(JANUARY, of_accounts([71, 72, 73], "1,73,1", "2,72,1"))
    shop.ingest(FEBRUARY, of_accounts([71, 72], "1,72,1", "2,72,1"))
    shop.ingest(JANUARY, of_accounts([71, 72], "1,73,1", "2,72,1"), "--restate", "--reason", "no 73")
    assert len(shop.rows("accounts")) == 2
    refused_restatement(shop, FEBRUARY, of_accounts([71, 72], "2,72,1"), f"payer: 1, delivered on {JANUARY}")


@pytest.mark.long
def test_other_files_after_a_restatement_that_was_cut_off_bring_back_no_row_of_nobody(shop: Shop) -> None:
    """Production has lost payment 8 by then, with 73. Without it in the new files, it would be 73's again."""
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    declare_payments(shop, refer=True, audited=False)
    for as_of in (JANUARY, FEBRUARY):
        shop.ingest(as_of, of_accounts([71, 72, 73], "8,73,1", "9,72,1"))
    shop.ingest(JANUARY, of_accounts([71, 72], "8,73,1", "9,72,1"), "--restate", "--reason", "73 came in February")
    moved = of_accounts([71, 72], "8,72,1", "9,72,1")
    land = ("land", shop.deliver(FEBRUARY, moved), "--data-dir", str(shop.data), "--restate", "--reason", "no 73")
    shop(*land)
    shop("dbt", "build", "--exclude", "payments+")
    assert [row[0] for row in shop.rows("payments")] == ["9"]
    shop.deliver(FEBRUARY, of_accounts([71, 72], "9,72,1"))
    said = shop("ingest", *land[1:], code=1)
    assert f"rows of payments that would match no row of accounts by payer: 1, delivered on {JANUARY}" in said
    shop.ingest(FEBRUARY, moved, "--restate", "--reason", "no 73")
    assert [row[:2] for row in shop.rows("payments")] == [("8", "72"), ("9", "72")]
    shop("verify")


@pytest.mark.long
def test_a_copy_of_a_row_from_before_a_restatement_is_no_parent(shop: Shop) -> None:
    """Neither for a reference that is declared later, nor once the restated month is archived."""
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    declare_payments(shop, refer=False)
    shop.ingest(JANUARY, of_accounts([71, 72, 73], "1,73,1", "2,72,1"))
    shop.ingest(FEBRUARY, of_accounts([71, 72], "2,72,1"))
    shop.ingest(JANUARY, of_accounts([71, 72], "1,73,1", "2,72,1"), "--restate", "--reason", "no 73")
    declare_payments(shop, refer=True, audited=False)
    month = shop.deliver(MARCH, of_accounts([71, 72], "2,72,1"))
    said = shop("ingest", month, "--data-dir", str(shop.data), code=1)
    assert f"match no row of accounts by payer: 1, delivered on {JANUARY}. Take the reference out" in said
    declare_payments(shop, refer=False)
    shop.ingest(JANUARY, of_accounts([71, 72], "2,72,1"), "--restate", "--reason", "no payment of 73")
    declare_payments(shop, refer=True, audited=False)
    shop.ingest(MARCH, of_accounts([71, 72], "2,72,1"))
    shop.ingest(APRIL, of_accounts([71, 72, 73], "1,73,1", "2,72,1"))
    shop("archive", "--before", FEBRUARY, "--to", str(shop.data / "archive"))
    without_73 = of_accounts([71, 72], "1,73,1", "2,72,1")
    refused_restatement(shop, APRIL, without_73, f"payer: 1, delivered on {APRIL}")


@pytest.mark.long
def test_a_key_of_ones_own_that_deletes_no_rows_refuses_a_restatement_that_it_would_stop(shop: Shop) -> None:
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    shop.ingest(JANUARY, of_accounts([71, 72, 73], "73,72,1"))
    key = "alter table payments add constraint by_number foreign key (payment_no) references accounts not valid"
    shop.streamflow.connection.execute(key)
    restated = of_accounts([71, 72], "71,72,1")
    refused_restatement(shop, JANUARY, restated, f"payment_no: 1, delivered on {JANUARY}")
    shop.streamflow.connection.execute("alter table payments drop constraint by_number")
    shop.ingest(JANUARY, restated, "--restate", "--reason", "no 73")
    shop("verify")


@pytest.mark.long
def test_keys_of_tables_that_no_file_delivers_hold_up_no_restatement_that_they_allow(shop: Shop) -> None:
    """In another schema, and one that was never validated and has a row of nobody."""
    if shop.streamflow.on_citus:
        pytest.skip("a table of the coordinator's own cannot refer to a distributed table")
    shop.ingest(JANUARY, of_accounts([71, 72, 73, 74], "8,71,1", "9,72,1"))
    shop.streamflow.connection.execute("""
        create schema app; create table app.accounts (id int primary key, account bigint references public.accounts);
        insert into app.accounts values (1, 74);
        create table notes (account bigint); insert into notes values (71), (5);
        alter table notes add foreign key (account) references accounts not valid
    """)
    shop.ingest(JANUARY, of_accounts([71, 72, 74], "8,71,1", "9,72,1"), "--restate", "--reason", "no 73")
    shop("verify")
    restated = shop.deliver(JANUARY, of_accounts([71, 72], "8,71,1", "9,72,1"))
    said = shop("ingest", restated, "--data-dir", str(shop.data), "--restate", "--reason", "no 74", code=1)
    assert "rows of app.accounts that would match no row of accounts by account: 1. To keep those rows" in said


@pytest.mark.long
def test_a_table_of_ones_own_and_a_reserved_word_as_parents_are_named(shop: Shop) -> None:
    order = table("order", {"primary_key": "order_no"}, [column("order_no", "int"), column("what", "text")])
    refers = {"primary_key": "line_no", "references": {"table": "order", "columns": ["order_no"]}}
    lines = table("lines", refers, [column("line_no", "int"), column("order_no", "int")])
    write_sources(shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml", [*TABLES, order, lines])
    shop("models")
    shop("models", "training_set", "--overwrite")
    ordered = {**FILES[JANUARY], "order": ["order_no,what", "1,a", "2,b"], "lines": ["line_no,order_no", "1,1", "2,2"]}
    shop.ingest(JANUARY, ordered)
    shop.ingest(FEBRUARY, {**ordered, "order": ["order_no,what", "1,a"]})
    restated = shop.deliver(
        JANUARY, {**ordered, "order": ["order_no,what", "1,a"], "lines": ["line_no,order_no", "1,1"]}
    )
    restate = ("--data-dir", str(shop.data), "--restate", "--reason", "x")
    if not shop.streamflow.on_citus:
        said = shop("ingest", restated, *restate, code=1)
        assert "order.csv  rows of lines that would match no row of" in said
        shop.streamflow.connection.execute("""
            create table regions (code text primary key); insert into regions values ('DE'), ('FR');
            alter table accounts add foreign key (country) references regions
        """)
        january = {**ordered, "accounts": ["account_id,country,churned", "71,DE,false", "72,DE,false", "73,XX,false"]}
        said = shop("ingest", shop.deliver(JANUARY, january), *restate, code=1)
        assert "accounts.csv  rows of accounts that" in said


@pytest.mark.long
def test_a_new_table_of_a_restated_month_names_nobody_whom_that_takes_away(shop: Shop) -> None:
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads cards by another column, so they have no foreign key")
    refers = {"primary_key": "card_no", "references": {"table": "accounts", "columns": ["account_id"]}}
    cards = table("cards", refers, [column("card_no", "int"), column("account_id", "bigint")])
    shop.ingest(JANUARY, of_accounts([71, 72, 73], "8,71,1", "9,72,1"))
    before = shop.rows("accounts")
    write_sources(shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml", [*TABLES, cards])
    shop("models")
    shop("models", "training_set", "--overwrite")
    without_73 = of_accounts([71, 72], "8,71,1", "9,72,1")
    month = shop.deliver(JANUARY, {**without_73, "cards": ["card_no,account_id", "1,73"]})
    restate = ("ingest", month, "--data-dir", str(shop.data), "--restate", "--reason", "no 73")
    assert "rows of cards that would match no row of accounts by account_id: 1" in shop(*restate, code=1)
    assert shop.rows("accounts") == before
    shop.deliver(JANUARY, {**without_73, "cards": ["card_no,account_id", "1,72"]})
    shop(*restate)
    shop("verify")


@pytest.mark.long
def test_a_table_that_is_no_longer_declared_is_not_told_to_rebuild(shop: Shop) -> None:
    refunds = table(
        "refunds",
        {"primary_key": "refund_no", "references": {"table": "payments", "columns": ["payment_no"]}},
        [column("refund_no", "int"), column("payment_no", "int")],
    )
    sources = shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    write_sources(sources, [*TABLES, refunds])
    shop("models")
    shop("models", "training_set", "--overwrite")
    shop.ingest(JANUARY, {**of_accounts([71, 72, 73], "8,71,1", "9,72,1"), "refunds": ["refund_no,payment_no", "1,8"]})
    write_sources(sources, TABLES)
    for path in (shop.copy / "dbt_project" / "models").rglob("*refunds*"):
        path.unlink()
    shop("models")
    shop("models", "training_set", "--overwrite")
    shop.ingest(FEBRUARY, of_accounts([71, 72, 73], "8,71,1", "9,72,1"))
    shop.ingest(FEBRUARY, of_accounts([71, 72], "8,71,1", "9,72,2"), "--restate", "--reason", "no 73")
    shop.ingest(MARCH, of_accounts([71, 72], "8,71,1", "9,72,2"))
    assert shop.streamflow.rows("select refund_no from refunds") == [(1,)]
    shop("verify")


def test_a_customer_is_not_forgotten_if_a_key_would_take_rows_of_others_along(shop: Shop) -> None:
    """Payment 71 is of customer 72, and refers to customer 71 by a second key."""
    if shop.streamflow.on_citus:
        pytest.skip("a cluster spreads payments by another column, so they have no foreign key")
    shop.ingest(JANUARY, of_accounts([71, 72, 73], "71,72,1", "73,73,1"))
    key = "alter table payments add constraint by_number foreign key (payment_no) references accounts on delete cascade"
    shop.streamflow.connection.execute(key)
    said = shop("forget", "71", "--reason", "they asked for it", code=3)
    assert "`alter table payments drop constraint by_number` in psql" in said
    shop("forget", "73", "--reason", "their only payment refers to themselves")
    shop.streamflow.connection.execute("alter table payments drop constraint by_number")
    shop("forget", "71", "--reason", "they asked for it")
    assert [row[:2] for row in shop.rows("payments")] == [("71", "72")]
    shop("verify")


def of_accounts(accounts: list[int], *payments: str) -> Files:
    """The files of a month with these accounts and lines of payments; other tables are those of January."""
    lines = [f"{account},DE,false" for account in accounts]
    return {
        **FILES[JANUARY],
        "accounts": ["account_id,country,churned", *lines],
        "payments": ["payment_no,payer,paid", *payments],
    }


KEYS_OF_PAYMENTS = "select count(*) from pg_constraint where conrelid = 'payments'::regclass and contype = 'f'"


def declare_payments(shop: Shop, *, refer: bool, audited: bool = True) -> None:
    """Declare payments with or without their reference to accounts, and its audit."""
    payments = json.loads(json.dumps(TABLES[2]))
    if not refer:
        del payments["config"]["meta"]["references"]
    if not (refer and audited):
        del payments["columns"][1]["data_tests"]
    sources = shop.copy / "dbt_project" / "models" / "staging" / "_sources.yml"
    write_sources(sources, [*TABLES[:2], payments, *TABLES[3:]])
    shop("models", "payments", "payments_snapshots", "training_set", "--overwrite")


def reads_well(shop: Shop, training_set: Path) -> None:
    """Check what the reading commands say of the three months."""
    found = shop.json("history", "72")["tables"]
    assert [(row["table"], row["key"]) for row in found] == [
        ("invoices", {"account_id": 72, "invoice_no": 1}),
        ("invoices", {"account_id": 72, "invoice_no": 2}),
        ("payments", {"payment_no": 9}),
        ("accounts", {"account_id": 72}),
        ("profiles", {"holder": 72}),
    ]
    assert [state["as_of"] for state in found[1]["states"]] == [FEBRUARY]
    [germany] = shop.json("history", "DE", "--table", "countries")["tables"]
    assert "no row of 'de' in countries_snapshots" in shop("history", "de", "--table", "countries", code=2)
    assert [state["values"]["tax"] for state in germany["states"]] == ["19", "16", "16"]

    found = {one["table"]: one for one in shop.json("diff", "000", "001")["tables"]}
    counts = [found["invoices"][name] for name in ("first_rows", "second_rows", "only_second", "equal", "different")]
    assert counts == [3, 4, 1, 2, 1]
    assert found["invoices"]["samples"] == [{"key": [71, 2], "changes": {"amount": ["7", "8"]}}]
    assert {sample["key"] for sample in found["payments"]["samples"]} == {8, 9}
    assert found["countries"]["samples"] == [{"key": "DE", "changes": {"tax": ["19", "16"]}}]
    assert "71,2  amount 7 -> 8" in shop("diff", "000", "001", "--table", "invoices")

    report = shop.json("report", "001")["report"]
    people = {one["table_name"]: one for one in report["customers"]}
    assert report["customers"][0]["table_name"] == "accounts"
    assert (people["accounts"]["customers_new"], people["accounts"]["customers_departed"]) == (1, 0)
    assert (people["invoices"]["customers_new"], people["invoices"]["customers_departed"]) == (1, 1)
    changed = {(one["now"]["table_name"], one["now"]["column_name"]): one["changes"] for one in report["columns"]}
    assert changed["invoices", "amount"]["compared_rows"] == 2
    assert changed["payments", "payer"]["changed_rows"] == 1

    shop("training-set", "--as-of", JANUARY, "--label-as-of", FEBRUARY, "--out", str(training_set))
    header, *rows = training_set.read_text().splitlines()
    assert [header, *sorted(rows)] == [  # its rows are in no particular order
        "account_id,event_timestamp,country,segment,churned",
        f"71,{JANUARY} 00:00:00,DE,gold,true",
        f"72,{JANUARY} 00:00:00,DE,gold,false",
        f"73,{JANUARY} 00:00:00,FR,,false",
    ]
    versions = (
        "select account_id, invoice_no, amount::float, is_current from invoices_scd2 where account_id = 71"
        " order by account_id, invoice_no, valid_from"
    )
    assert shop.streamflow.rows(versions) == [
        (71, 1, 10.5, True), (71, 2, 7, False), (71, 2, 8, True), (71, 3, 1, True)
    ]  # fmt: skip


LINES = table(
    "lines",
    {"primary_key": ["account_id", "invoice_no", "line"], "references": "invoices"},
    [column("account_id", "bigint"), column("invoice_no", "integer"), column("line", "int")],
)
REFUNDS = table("refunds", {"primary_key": "payment_no", "references": "payments"}, [column("payment_no", "int")])
CARDS = table("cards", {"primary_key": "account_id"}, [column("account_id", "bigint")])
SITES = table("sites", {"primary_key": ["town", "number"]}, [column("town", "text"), column("number", "int")])
VISITS = table(
    "visits",
    {"primary_key": "visit", "references": {"table": "sites", "columns": ["where_to", "which"]}},
    [column("visit", "int"), column("where_to", "text"), column("which", "int")],
)


PERSONS = table("persons", {"primary_key": "id"}, [column("id", "int"), column("name", "text")])
GOODS = {**PERSONS, "name": "goods"}
ORDERS = table("orders", {"primary_key": "no"}, [column("no", "int"), column("person", "int")])
PRICES = table(
    "prices", {"primary_key": "good", "references": {"table": "goods", "columns": "good"}}, [column("good", "int")]
)
STOCKS = {**PRICES, "name": "stocks"}


def with_meta(declared: dict[str, Any], **meta: Any) -> dict[str, Any]:
    """The declared table, with these keys of `meta` added or changed."""
    return {**declared, "config": {"meta": {**declared["config"]["meta"], **meta}}}


Whose = Callable[..., dict[str, tuple[str, ...]]]


@pytest.fixture
def whose(tmp_path: Path, use_project: Callable[[Path], None]) -> Whose:
    """Table -> the columns that tell which customer a row belongs to, of the given tables."""
    (tmp_path / SOURCES).parent.mkdir(parents=True)

    def whose(*tables: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        write_sources(tmp_path / SOURCES, list(tables))
        use_project(tmp_path)
        return {one.name: one.customer for one in load_contract()}

    return whose


def test_whose_a_row_is_follows_from_references(whose: Whose) -> None:
    accounts, id_ = TABLES[3], ("account_id",)
    found = whose(*TABLES, LINES, REFUNDS, CARDS, VISITS, SITES)
    assert found == {
        "countries": (), "invoices": id_, "payments": ("payer",), "accounts": id_, "profiles": ("holder",),
        "lines": id_, "refunds": (), "cards": id_, "visits": (), "sites": (),
    }  # fmt: skip
    assert whose(SITES, VISITS, accounts)["visits"] == ("where_to", "which")
    assert whose(SITES, VISITS, with_meta(accounts, customers=True))["visits"] == ()
    lookup = {"table": "countries", "columns": "country"}
    led = [with_meta(one, references=lookup, customers=True) if one is accounts else one for one in TABLES]
    assert whose(*led) == whose(*TABLES)


OF_PERSONS = with_meta(ORDERS, references={"table": "persons", "columns": "person"})
SOLD: Files = {
    "persons": ["id,name", "1,a", "2,b", "3,c"],
    "orders": ["no,person", "10,1", "20,2", "30,3"],
    "goods": ["id,name", "1,x", "2,y", "3,z"],
    **{name: ["good", "1", "3"] for name in ("prices", "stocks")},
}


@pytest.fixture
def sold(shop: Shop) -> Shop:
    """January of persons, their orders, and goods; person 3 is forgotten."""
    declare(shop, PERSONS, OF_PERSONS, GOODS)
    shop.ingest(JANUARY, SOLD)
    assert "left alone, because their rows belong to no customer: goods" in shop("forget", "3", "--reason", "why")
    return shop


def declare(shop: Shop, *named: dict[str, Any]) -> None:
    """Declare these tables and no others, and write their models and no others."""
    models = shop.copy / "dbt_project" / "models"
    for folder in ("history", "production", "marts"):
        shutil.rmtree(models / folder)
    write_sources(models / "staging" / "_sources.yml", list(named))
    shop("models")


def holds(shop: Shop, **keys: list[int]) -> None:
    """Check the keys of the rows of tables in production."""
    for name, known in keys.items():
        assert [row[0] for row in shop.streamflow.rows(f"select * from {name} order by 1")] == known, name
    shop("verify")


def remedy(refusal: str) -> str:
    """The statement for psql that a message names."""
    return refusal.partition("run in psql `")[2].partition("`")[0]


def test_no_row_of_others_is_forgotten_and_a_declaration_of_other_customers_is_refused(sold: Shop) -> None:
    """Also with a tombstone of an earlier version, once a command has seen the declaration."""
    holds(sold, persons=[1, 2], orders=[10, 20], goods=[1, 2, 3])
    sold.streamflow.connection.execute("update ops.forgotten set customers_in = null, named_in = null")
    sold.ingest(JANUARY, SOLD)
    declare(sold, PERSONS, OF_PERSONS, GOODS, PRICES, STOCKS)  # more tables lead to goods
    february = ("ingest", sold.deliver(FEBRUARY, SOLD), "--data-dir", str(sold.data))
    for command in (february, (*february, "--dry-run"), ("forget", "1", "--reason", "why")):
        assert "customers of persons were forgotten, but the declaration has the customers in goods" in sold(
            *command, code=2
        )
    assert "forgotten: customers of persons were forgotten" in run_copy(sold.copy, sold.streamflow, "doctor").stdout
    owners = with_meta(PERSONS, customers=True)
    trial = {**OF_PERSONS, "name": "stocks"}
    declare(sold, owners, OF_PERSONS, GOODS, PRICES, trial)  # which no month has brought
    sold("check", *february[1:], code=1)
    declare(sold, owners, OF_PERSONS, GOODS, PRICES, STOCKS)
    sold(*february)
    holds(sold, persons=[1, 2], orders=[10, 20], goods=[1, 2, 3], prices=[1, 3])


@pytest.mark.long
def test_who_was_forgotten_can_be_forgotten_in_tables_that_name_customers_later(sold: Shop) -> None:
    february = ("ingest", sold.deliver(FEBRUARY, SOLD), "--data-dir", str(sold.data))
    declare(sold, PERSONS, with_meta(ORDERS, references={"table": "persons", "columns": "no"}), GOODS)
    assert "orders.person named customers" in sold(*february, code=2)
    declare(sold, PERSONS, ORDERS, GOODS)
    refused = sold(*february, code=2)
    assert "orders.person named customers who were forgotten, but the declaration no longer says" in refused
    sold.streamflow.connection.execute(remedy(refused).encode())
    sold(*february)
    holds(sold, persons=[1, 2], orders=[10, 20, 30], goods=[1, 2, 3])
    declare(sold, PERSONS, OF_PERSONS, GOODS)
    again = sold.json("forget", "3", "--reason", "again")
    assert (again["customers"], again["before"], again["rows"]) == (0, 1, 3)
    assert sold.json("forget", "3", "--reason", "again")["rows"] == 0
    holds(sold, persons=[1, 2], orders=[10, 20], goods=[1, 2, 3])

    people = {**with_meta(PERSONS, customers=True, files="persons.csv"), "name": "people"}
    declare(sold, people, with_meta(ORDERS, references={"table": "people", "columns": "person"}), GOODS)
    march = ("ingest", sold.deliver(MARCH, SOLD), "--data-dir", str(sold.data))
    refused = sold(*march, code=2)
    assert "customers of persons were forgotten, but the declaration has the customers in people" in refused
    sold.streamflow.connection.execute(remedy(refused).encode())
    sold(*march)
    holds(sold, people=[1, 2], orders=[10, 20], goods=[1, 2, 3])


@pytest.mark.long
def test_a_column_that_names_customers_is_declared_after_a_restatement(sold: Shop) -> None:
    """The kept copy lacks it, and until February all of history does."""
    restated: Files = {**SOLD, "goods": ["id,name", "1,x", "2,y", "3,other"]}
    sold.ingest(JANUARY, restated, "--restate", "--reason", "a name")
    bought = with_meta(GOODS, references={"table": "persons", "columns": "buyer"})
    declare(sold, PERSONS, OF_PERSONS, {**bought, "columns": [*GOODS["columns"], column("buyer", "int")]})
    assert sold.json("forget", "2", "--reason", "why")["left_alone"] == ["goods"]
    files = {**restated, "orders": ["no,person", "10,1"], "goods": ["id,name,buyer", "1,x,1", "2,y,2", "3,other,"]}
    sold("land", sold.deliver(FEBRUARY, files), "--data-dir", str(sold.data))
    assert sold.streamflow.rows("select id from staging.goods order by 1") == [(1,), (3,)]
    sold("ingest", "001", "--data-dir", str(sold.data))
    sold("forget", "1", "--reason", "why")
    holds(sold, persons=[], orders=[], goods=[2, 3])
    assert sold.streamflow.rows("select id from restated.goods_2024_01_31 order by 1") == [(2,), (3,)]


@pytest.mark.long
def test_somebody_is_forgotten_between_a_key_of_another_type_and_its_migration(sold: Shop) -> None:
    february = ("ingest", sold.deliver(FEBRUARY, SOLD), "--data-dir", str(sold.data))
    persons = {**PERSONS, "columns": [column("id", "text"), column("name", "text")]}
    declare(sold, persons, {**OF_PERSONS, "columns": [column("no", "int"), column("person", "text")]}, GOODS)
    assert "streamflow migrate" in sold(*february, code=2)
    assert sold.json("forget", "2", "--reason", "why")["customers"] == 1
    assert "forgotten" in sold("migrate", code=2)  # their tombstones are of numbers
    declare(sold, PERSONS, OF_PERSONS, GOODS)
    sold(*february)
    holds(sold, persons=[1], orders=[10], goods=[1, 2, 3])


def payments(**meta: Any) -> dict[str, Any]:
    """The declared payments, with these keys of `meta` added or changed."""
    return with_meta(TABLES[2], **meta)


def by(*columns: str) -> dict[str, Any]:
    """A reference to accounts by these columns."""
    return {"table": "accounts", "columns": list(columns)}


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([payments(primary_key=[])], "primary_key Tuple should have at least 1 item"),
        ([payments(primary_key=["paid", "paid"])], "primary_key paid is named twice"),
        ([payments(references="accounts")], "by account_id, but has no such column: say by which"),
        ([payments(references=by("paye"))], "references accounts by paye, but has no such column"),
        ([payments(references={"table": "accounts", "column": "payer"})], "references.column Extra inputs"),
        ([payments(references=by("payer", "paid"))], "by 2 columns, but the key of accounts has 1: account_id"),
        ([payments(references=by("paid"))], "by paid, which is numeric, but accounts.account_id is bigint"),
        ([payments(references="payments")], "references itself, which only an audit can check"),
        ([payments(references="nobody")], "references nobody, which is not declared"),
        ([with_meta(CARDS, references="debts"), with_meta({**CARDS, "name": "debts"}, references="cards")], "back"),
        ([payments(customers=True), with_meta(CARDS, customers=True)], "both have `customers: true`"),
    ],
    ids=[
        "none",
        "twice",
        "not by its key",
        "no column",
        "typo",
        "number",
        "type",
        "itself",
        "unknown",
        "circle",
        "customers",
    ],
)
def test_an_unsound_key_or_reference_is_named(whose: Whose, tables: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        whose(*tables, TABLES[3])


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([*TABLES, REFUNDS], "rows of refunds name a row of payments but no customer"),
        ([SITES, VISITS], "the key of customers is town, number"),
    ],
)
def test_nobody_is_forgotten_whose_rows_cannot_be_told(
    copy: Path, streamflow: Streamflow, tables: list[dict[str, Any]], said: str
) -> None:
    write_sources(copy / "dbt_project" / "models" / "staging" / "_sources.yml", tables)
    done = run_copy(copy, streamflow, "forget", "71", "--reason", "why")
    assert (done.returncode, said in done.stderr) == (2, True), done
