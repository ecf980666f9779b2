"""`verify` finds and names every kind of tampering with what was published, and raises no false alarm."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlparse

from loader.database import Connection
from loader.ledger import chain
from tests.conftest import TABLES, Streamflow
from tests.test_gate import land_only

JANUARY, FEBRUARY = "history.labels_2024_01_31", "history.labels_2024_02_29_load_3"
KEPT = "restated.labels_2024_02_29"
CHANGE = "update {0} set churn_label = churn_label is not true where user_id = (select min(user_id) from {0})"
ENTRY = "table_name = 'labels' and as_of = '2024-01-31'"
FITTING = f"update ops.history set checksum = ops.checksum('{JANUARY}', checksum_columns) where {ENTRY}"
TELL = (
    "update ops.chain set tells = jsonb_set(tells, '{tables}', ("
    " select jsonb_agg(case when entry ->> 'table' = 'labels' then entry || jsonb_build_object('checksum', checksum)"
    " else entry end) from jsonb_array_elements(tells -> 'tables') as entry, ops.history where " + ENTRY + "))"
    " where link = 1"
)
LINK_ANEW = (
    "do $$ begin for number in 1 .. (select max(link) from ops.chain) loop"
    " update ops.chain set sha256 = ops.link_sha256((select sha256 from ops.chain where link = number - 1), tells)"
    " where link = number; end loop; end $$"
)
LAST = "(select max(link) from ops.chain)"
FORGED_BEFORE = (
    "create function {0}.quote_ident(name) returns text language sql as 'select case $1 when ''churn_label'' then"
    " ''case when as_of = date 2024-01-31 then not churn_label else churn_label end''"
    " else pg_catalog.quote_ident($1::text) end'"
)
"""Has the checksum read what January's rows were before each label was turned around."""
TURNED = f"update {JANUARY} set churn_label = not churn_label"


def unguarded(relation: str, change: str) -> str:
    """A change of history by its owner, who disables the triggers for it."""
    return f"alter table {relation} disable trigger user; {change}; alter table {relation} enable trigger user"


FORGED = f"{unguarded(JANUARY, CHANGE.format(JANUARY))}; {FITTING}"


@dataclass(frozen=True)
class Tamper:
    """Tampering statements, and the finding that `verify` must have for them, with its table and date."""

    did: str
    finding: str
    table: str = "labels"
    as_of: str | None = "2024-01-31"


FOUND = {
    "a partition dropped": Tamper(f"drop table {JANUARY}", "is gone"),
    "a partition detached": Tamper(f"alter table labels_snapshots detach partition {JANUARY}", "no longer a part"),
    "an entry deleted": Tamper(f"delete from ops.history where {ENTRY}", "its entry in the ledger is gone"),
    "an entry deleted, its partition left": Tamper(
        f"delete from ops.history where {ENTRY}", f"{JANUARY} has history, but no entry", "ops", None
    ),
    "partition and entry deleted": Tamper(
        f"delete from ops.history where {ENTRY}; drop table {JANUARY}", "its entry in the ledger is gone"
    ),
    "rows changed": Tamper(unguarded(JANUARY, CHANGE.format(JANUARY)), "the checksum differs"),
    "a row deleted": Tamper(unguarded(JANUARY, f"delete from {JANUARY} where churn_label"), "were written"),
    "partitions swapped": Tamper(
        f"alter table labels_snapshots detach partition {JANUARY};"
        f"alter table labels_snapshots detach partition {FEBRUARY};"
        + unguarded(JANUARY, f"update {JANUARY} set as_of = '2024-02-29'") + ";"
        + unguarded(FEBRUARY, f"update {FEBRUARY} set as_of = '2024-01-31'") + ";"
        f"alter table {JANUARY} rename to other; alter table {FEBRUARY} rename to labels_2024_01_31;"
        "alter table history.other rename to labels_2024_02_29_load_3;"
        f"alter table labels_snapshots attach partition {JANUARY} for values in ('2024-01-31');"
        f"alter table labels_snapshots attach partition {FEBRUARY} for values in ('2024-02-29')",
        "were written",
    ),
    "entries swapped": Tamper(
        "update ops.history as one set checksum = two.checksum from ops.history as two"
        " where one.table_name = 'labels' and two.table_name = 'labels' and one.as_of <> two.as_of",
        "not the one that was published",
    ),
    "rows forged, with a checksum that fits": Tamper(FORGED, "not the one that was published"),
    "rows forged, and the chain's link": Tamper(f"{FORGED}; {TELL}", "link 1 of ops.chain was changed", "ops", None),
    "the ledger emptied": Tamper(
        "truncate ops.loads, ops.history, ops.restatements, ops.published, ops.chain cascade",
        f"{JANUARY} has history, but no entry", "ops", None,
    ),
    "the ledger dropped": Tamper("drop schema ops cascade", f"{JANUARY} has history, but no entry", "ops", None),
    "a trigger dropped": Tamper(f"drop trigger history_is_immutable on {JANUARY}", "no longer refuses changes"),
    "a trigger disabled": Tamper(
        f"alter table {JANUARY} disable trigger history_is_not_truncated", "no longer refuses changes"
    ),
    "the trigger of the whole table dropped": Tamper(
        "drop trigger history_is_immutable on labels_snapshots", "no longer refuses changes", "labels", None
    ),
    "the trigger's function emptied": Tamper(
        "create or replace function ops.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
        "ops.refuse_change is not the function of", "ops", None,
    ),
    "the checksum's function forged": Tamper(
        unguarded(JANUARY, CHANGE.format(JANUARY)) + "; create or replace function ops.checksum(relation regclass,"
        " columns text []) returns numeric language sql as"
        " 'select checksum from ops.history where to_regclass(''history.'' || partition_name) = relation'",
        "ops.checksum is not the function of", "ops", None,
    ),
    "a function put beside it": Tamper(
        "create function ops.checksum(relation oid, columns text []) returns numeric language sql as 'select 0.0'",
        "ops.checksum is not the function of", "ops", None,
    ),
    "a function of public that the checksum's function would call": Tamper(
        unguarded(JANUARY, TURNED) + "; " + FORGED_BEFORE.format("public"), "the checksum differs"
    ),
    "a setting given to the checksum's function": Tamper(
        unguarded(JANUARY, TURNED) + "; create schema other; " + FORGED_BEFORE.format("other")
        + "; alter function ops.checksum(regclass, text []) set search_path = other",
        "ops.checksum is not the function of", "ops", None,
    ),
    "rows forged, and said to be archived": Tamper(
        unguarded(JANUARY, TURNED) + "; select ops.add_link(tells || jsonb_build_object('event', 'archived',"
        " 'folder', '/nowhere', 'tables', jsonb_build_array(tells -> 'tables' -> 0 || '{\"file\": \"x\"}')))"
        " from ops.chain where link = 1",
        f'archived, and "{JANUARY}" is there'.replace(".", '"."'),
    ),
    "what is archived forged": Tamper(
        unguarded(JANUARY, CHANGE.format(JANUARY)) + "; create or replace view ops.archived as select 'labels'::text as"
        " table_name, date '2024-01-31' as as_of, 1::bigint as load_id, '/nowhere'::text as folder, 'x'::text as file,"
        " 'x'::text as sha256, 'archived'::text as event", "ops.archived is not the view of", "ops", None,
    ),
    "a view of the ledger emptied": Tamper(
        "create or replace view ops.standing_history as select * from ops.history where false",
        "ops.standing_history is not the view of", "ops", None,
    ),
    "a kept table changed": Tamper(unguarded(KEPT, CHANGE.format(KEPT)), "the checksum differs", as_of="2024-02-29"),
    "a kept table dropped": Tamper(f"drop table {KEPT}", "is gone", as_of="2024-02-29"),
    "a restatement's entry deleted": Tamper(
        "delete from ops.restatements", "its entry in the ledger is gone", as_of="2024-02-29"
    ),
    "production changed": Tamper(CHANGE.format("labels"), "differ from what history says: 1", as_of=None),
    "production dropped": Tamper("drop table labels cascade", "labels\" is gone", as_of=None),
    "production made a view": Tamper(
        "alter table labels rename to others; create view labels as select * from others where false",
        "labels\" is no longer a table", as_of=None,
    ),
    "a type of production changed": Tamper(
        "alter table labels alter column churn_label type text",
        "has the column churn_label as text, and history as boolean", as_of=None,
    ),
    "a column of production dropped": Tamper(
        "alter table labels drop column churn_label cascade", "labels\" has no column churn_label", as_of=None
    ),
    "the key of production dropped": Tamper(
        "alter table labels drop column user_id cascade", "labels\" has no column user_id", as_of=None
    ),
    "a row of production twice": Tamper(
        "alter table labels drop constraint labels_pkey; insert into labels select * from labels limit 1",
        "labels\" no longer has the primary key of history", as_of=None,
    ),
    "a row of production twice, from a table below it": Tamper(
        "create table more () inherits (labels); insert into more select * from labels limit 1",
        "labels\" has rows of a table that inherits from it", as_of=None,
    ),
    "a column of history added": Tamper(
        "alter table labels_snapshots add column own int", "labels_snapshots has a column own", as_of=None
    ),
    "a column of production added": Tamper("alter table labels add own int", "labels has a column own", as_of=None),
    "a column of history dropped": Tamper(
        "alter table labels_snapshots drop column churn_label cascade", "the checksum differs"
    ),
    "a link deleted": Tamper("delete from ops.chain where link = 2", "link 3 of ops.chain was changed", "ops", None),
    "a link without a hash": Tamper(
        f"alter table ops.chain alter sha256 drop not null; update ops.chain set sha256 = null where link = {LAST}",
        "link 3 of ops.chain was changed", "ops", None,
    ),
    "the last link deleted": Tamper(
        f"delete from ops.chain where link = {LAST}", "no link for the publication of month 001 by load 3", "ops", None
    ),
    "a publication deleted": Tamper(
        "delete from ops.published where load_id = 1", "gone from ops.published", "ops", None
    ),
    "a publication changed": Tamper(
        "update ops.published set month = '007' where load_id = 1", "gone from ops.published", "ops", None
    ),
    "an entry of a restatement emptied": Tamper(
        "update ops.restatements set replaced = replaced - 'partition_name' where table_name = 'labels'",
        "its entry in the ledger is not whole", as_of="2024-02-29",
    ),
    "a link that tells of no tables": Tamper(
        "update ops.chain set tells = tells || '{\"tables\": 3}' where link = 1",
        "entries are not what streamflow writes", "ops", None
    ),
    "a link that makes a view fail": Tamper(
        "update ops.chain set tells = '{\"event\": \"archived\", \"tables\": 5}' where link = 1",
        "link 1 of ops.chain was changed", "ops", None,
    ),
    "a publication forged": Tamper(
        "insert into ops.published values (7, '2024-01-31', '000', now())", "month 000 by load 7", "ops", None
    ),
}  # fmt: skip

CHANGES_THE_TABLE = {
    "a type of production changed",
    "a column of production added",
    "a row of production twice",
    "a row of production twice, from a table below it",
}
"""What only dropping production repairs."""

HIDDEN = {
    "rows forged, and all of the chain": (f"{FORGED}; {TELL}; {LINK_ANEW}", "2024-01-31 published as month 000"),
    "the last month forgotten by the ledger": (
        f"delete from ops.published where load_id = 3; delete from ops.chain where link = {LAST}",
        "2024-02-29 published as month 001 by load 3",
    ),
}
"""What only a manifest finds."""


def do(streamflow: Streamflow, statements: str) -> None:
    """Run statements one by one: a cluster's nodes do not take several at once, and a cluster refuses some of them."""
    for statement in sqlparse.split(statements):
        try:
            streamflow.connection.execute(statement.encode())
        except psycopg.errors.InternalError_ as error:
            if not streamflow.on_citus:
                raise
            pytest.skip(str(error))


def wrong(verdicts: list[dict[str, str]]) -> list[tuple[str, str | None, str]]:
    """Table, date and finding of each verdict that is not sound."""
    return [(one["table"], one["as_of"], one["finding"]) for one in verdicts if not one["sound"]]


@pytest.mark.parametrize("name", FOUND)
def test_tampering_is_found_and_named(restated: tuple[Streamflow, Path], name: str) -> None:
    streamflow, manifest = restated
    if streamflow.on_citus and "partition" in name:
        pytest.skip("a partition is attached to a distributed table in other words")
    tamper, kept = FOUND[name], manifest.read_text()
    do(streamflow, tamper.did)
    for arguments in (["verify", "--json"], ["verify", "--json", "--manifest", manifest]):
        result = streamflow(*arguments)
        assert result.code == 1, result
        found = wrong(result.json)
        assert [each for each in found if each[:2] == (tamper.table, tamper.as_of) and tamper.finding in each[2]], found
    assert manifest.read_text() == kept


@pytest.mark.parametrize("name", [name for name in FOUND if "production" in name])
def test_production_can_be_repaired(january: Streamflow, name: str) -> None:
    do(january, FOUND[name].did)
    assert january("verify").code == 1
    if name in CHANGES_THE_TABLE:
        do(january, "drop table labels cascade")
    run = january.dbt("run", "--full-refresh", "--select", "path:models/production")
    assert run.success, [result.message for result in run.result or []] + [str(run.exception)]
    january.ok("verify")


def test_functions_of_others_in_public_are_not_called(january: Streamflow) -> None:
    """They would run with the rights of whoever proves, if their arguments fitted better than those of PostgreSQL's."""
    other = "create function public.{} returns bigint language plpgsql as 'begin return 0; end'"
    for name in (
        "hash_record_extended(record, int)",
        "hash_record_extended(record, bigint)",
        "hashint8extended(bigint, int)",
    ):
        january.connection.execute(other.format(name).encode())
    january.ok("verify")


def test_forged_rows_are_not_archived(january: Streamflow, months: Path, tmp_path: Path) -> None:
    """Afterwards, only the hash of the file would be proved. Commands that write have `public` in their search path."""
    january.ok("ingest", "001", "--data-dir", months)
    do(january, unguarded(JANUARY, TURNED) + "; " + FORGED_BEFORE.format("public"))
    refused = january("archive", "--before", "2024-02-29", "--to", tmp_path)
    assert refused.code == 3, refused
    assert "does not read back as labels of 2024-01-31" in refused.err


@pytest.mark.parametrize("name", HIDDEN)
def test_a_manifest_finds_what_fits_together(restated: tuple[Streamflow, Path], name: str) -> None:
    streamflow, manifest = restated
    did, told = HIDDEN[name]
    do(streamflow, did)
    streamflow.ok("verify")
    result = streamflow("verify", "--json", "--manifest", manifest)
    assert result.code == 1
    [(table, _, finding)] = wrong(result.json)
    assert table == "manifest"
    assert told in finding


def test_a_manifest_has_a_line_a_publication_and_grows(
    restated: tuple[Streamflow, Path], months: Path, tmp_path: Path
) -> None:
    streamflow, manifest = restated
    noted = manifest.read_text()
    lines = [line.split() for line in noted.splitlines() if not line.startswith("#")]
    assert [(line[0], line[2], " ".join(line[3:])) for line in lines] == [
        ("1", "2024-01-31", "published as month 000 by load 1"),
        ("2", "2024-02-29", "published as month 001 by load 2"),
        ("3", "2024-02-29", "published as month 001 by load 3"),
    ]
    shown = streamflow.ok("ingest", "002", "--data-dir", months).out
    [printed] = [line.removeprefix("manifest: ") for line in shown.splitlines() if line.startswith("manifest: ")]
    streamflow.ok("verify", "--manifest", manifest)
    assert manifest.read_text() == f"{noted}{printed}\n"
    for cut in (f"{printed[:20]}", printed[:1], printed):
        manifest.write_text(f"{noted}{cut}")  # a full disk
        streamflow.ok("verify", "--manifest", manifest)
        assert manifest.read_text() == (f"{noted}{cut}" if cut == printed else f"{noted}{cut}\n{printed}\n")
        streamflow.ok("verify", "--manifest", manifest)
    whole = f"{noted}{printed}\n"
    manifest.write_text("")
    streamflow.ok("verify", "--manifest", manifest)
    assert manifest.read_text() == whole
    for other in ("1000\n1001\n1002\n", f"2 {'0' * 20}\n{noted}"):  # no line of a manifest, though one could end so
        manifest.write_text(other)
        assert streamflow("verify", "--manifest", manifest).code == 2
        assert manifest.read_text() == other
    manifest.write_text(f"{noted}4 {'0' * 20}")
    assert "line 5 of" in streamflow("verify", "--manifest", manifest).out, "what is there of the hash is another one"
    by_hand = tmp_path / "by hand"
    by_hand.write_text(f"manifest: {printed}\n")
    assert "matches the ledger" in streamflow.ok("verify", "--manifest", by_hand).out
    by_hand.write_text("user_id,churn_label\n")
    assert streamflow("verify", "--manifest", by_hand).code == 2


def test_a_swap_of_two_customers_is_always_found(january: Streamflow) -> None:
    if january.on_citus:
        pytest.skip("the function is the same, and rows move between nodes slowly")
    partition = "history.subscriptions_2024_01_31"
    before = january.value(f"select ops.checksum('{partition}', checksum_columns) from ops.history"
                           " where table_name = 'subscriptions'")  # fmt: skip
    keys = [key for (key,) in january.rows(f"select user_id from {partition} order by 1")]
    columns = [name for name, in january.rows(
        "select unnest(checksum_columns) from ops.history where table_name = 'subscriptions'"
    ) if name not in {"user_id", "as_of", "observed_as_of"}]  # fmt: skip
    january.connection.execute(f"alter table {partition} disable trigger user".encode())
    chosen, found, swaps = random.Random(15), 0, 0  # noqa: S311
    while swaps < 200:
        (one, two), column = chosen.sample(keys, 2), chosen.choice(columns)
        query = f"select {column} from {partition} where user_id in (%s, %s)"
        if len(set(january.rows(query, one, two))) == 1:
            continue
        with january.connection.transaction(force_rollback=True):
            january.connection.execute(
                f"update {partition} as a set {column} = b.{column} from {partition} as b where"
                " (a.user_id, b.user_id) in ((%s, %s), (%s, %s))".encode(), [one, two, two, one],
            )  # fmt: skip
            columns_of = "(select checksum_columns from ops.history where table_name = 'subscriptions')"
            found += january.value(f"select ops.checksum('{partition}', {columns_of})") != before
        swaps += 1
    assert found == swaps


def test_other_digits_of_the_same_number_are_found(january: Streamflow) -> None:
    partition = "history.subscriptions_2024_01_31"
    change = f"update {partition} set monthly_fee = (monthly_fee::text || '0')::numeric"
    do(january, unguarded(partition, change))
    assert ("subscriptions", "2024-01-31") in [each[:2] for each in wrong(january("verify", "--json").json)]


SETTINGS = (
    "datestyle = 'sql, dmy'", "timezone = 'Asia/Tokyo'", "extra_float_digits = -15", "bytea_output = escape",
    "intervalstyle = sql_standard",
)  # fmt: skip


def test_no_setting_changes_a_checksum(january: Streamflow) -> None:
    """A checksum that was written under one setting is the same under another, in anybody's session."""
    differing = (
        "select table_name from ops.history where checksum"
        " <> ops.checksum(('history.' || quote_ident(partition_name))::regclass, checksum_columns)"
    )
    for setting in SETTINGS:
        january.connection.execute(f"set {setting}".encode())
        assert january.rows(differing) == [], setting
    assert january.value("select count(*) from ops.history") == len(TABLES)


def test_a_ledger_that_was_tampered_with_keeps_no_month_out(january: Streamflow, months: Path) -> None:
    january.connection.execute("update ops.chain set tells = '{}' where link = 1")
    january.ok("ingest", "001", "--data-dir", months)
    assert january("verify").code == 1


def test_nothing_to_verify(streamflow: Streamflow) -> None:
    assert streamflow.ok("verify").out == "nothing to verify: no month has any history yet\n"
    assert streamflow.dbt("build").success
    assert "nothing to verify" in streamflow.ok("verify").out


def test_another_database_is_not_what_the_manifest_tells(streamflow: Streamflow, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_text(f"1 {'0' * 64} 2024-01-31 published as month 000 by load 1\n")
    result = streamflow("verify", "--json", "--manifest", manifest)
    assert result.code == 1
    assert "2024-01-31 published as month 000 by load 1): the ledger has no such entry" in wrong(result.json)[0][2]


def test_half_a_month_is_not_finished_and_no_forgery(january: Streamflow, months: Path) -> None:
    land_only(january, months / "month_001", 1)
    january.connection.execute("create table history.labels_2024_02_29 ()")
    assert not january.dbt("build").success
    assert january.value("select count(*) between 1 and 5 from ops.history where as_of = '2024-02-29'")
    january.connection.execute("drop table history.labels_2024_02_29")
    verdicts = january.ok("verify", "--json").json
    assert {one["finding"] for one in verdicts if one["as_of"] == "2024-02-29"} == {"not finished: not published yet"}
    assert len(verdicts) > 2 * len(TABLES) + 1


def test_a_month_that_is_published_meanwhile_is_no_alarm(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries_before(connection: Connection) -> list[chain.Entry]:
        found = entries(connection)
        if len(found) == len(TABLES):
            january.ok("ingest", "001", "--data-dir", months)
        return found

    entries = chain.entries
    monkeypatch.setattr(chain, "entries", entries_before)
    found = january.ok("verify", "--json").json
    assert {verdict["as_of"] for verdict in found} == {"2024-01-31", "2024-02-29", None}
