"""What the terminal shows: one customer over time, differences, JSON results and logs, completion, colour."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loader.cli import reading
from loader.contract.tables import load_contract
from loader.errors import WrongUsage
from loader.readers import lookups
from tests.conftest import REPOSITORY, TABLES, Streamflow
from tests.files import copy_month

PROGRAM = [sys.executable, "-c", "from loader.cli.program import program; program()"]
COLOUR = re.compile(rb"\x1b\[[0-9;]*3\d")


def test_history_shows_what_each_date_holds_and_what_changed(february: Streamflow) -> None:
    [(user, old, new)] = february.rows(
        "select user_id, a.total_paid, b.total_paid from subscriptions_snapshots as a"
        " join subscriptions_snapshots as b using (user_id) where a.as_of = '2024-01-31' and b.as_of = '2024-02-29'"
        " and a.total_paid <> b.total_paid order by 1 limit 1"
    )
    found = {one["table"]: one["states"] for one in february.ok("history", user, "--json").json["tables"]}
    assert list(found) == TABLES
    first, second = found["subscriptions"]
    assert (first["as_of"], first["values"]["total_paid"], first["changed"]) == ("2024-01-31", str(old), [])
    assert (second["as_of"], second["values"]["total_paid"]) == ("2024-02-29", str(new))
    assert "total_paid" in second["changed"]
    text = february.ok("history", user, "--table", "subscriptions").out
    assert f"total_paid {old} -> {new}" in " ".join(text.split())


def test_history_tells_what_was_carried_forward(february: Streamflow) -> None:
    user = february.value(
        "select min(user_id) from users_snapshots where as_of = '2024-02-29' and observed_as_of < as_of"
    )
    [table] = february.ok("history", user, "--table", "users", "--json").json["tables"]
    assert [state["delivered"] for state in table["states"]] == [True, False]
    assert table["states"][1]["observed_as_of"] == "2024-01-31"
    assert "as before (carried forward from 2024-01-31)" in february.ok("history", user).out


def test_an_unknown_customer_is_wrong_usage(january: Streamflow, streamflow: Streamflow) -> None:
    result = streamflow("history", "nobody")
    assert result.code == 2
    assert "streamflow ingest" in result.err


def test_a_customer_in_other_letters_is_another(january: Streamflow) -> None:
    user = january.value("select min(user_id) from users where user_id <> lower(user_id)")
    result = january("history", user.lower())
    assert result.code == 2
    assert "as in the files, capitals too" in result.err
    assert january("history", "'; drop table users; --").code == 2
    assert january.value("select count(*) from users") == 60


def test_a_key_of_several_columns_is_asked_for_as_in_a_csv_file(january: Streamflow) -> None:
    users = next(table for table in load_contract() if table.name == "users")
    key = ("user_id", "user_gender")
    users = users.model_copy(update={"key": key, "customer": key})
    [(user, gender)] = january.rows("select user_id, user_gender from users order by user_id limit 1")
    for asked in (f"{user},{gender}", f'"{user}","{gender}"'):
        [row] = lookups.customer(january.connection, asked, [users])
        assert row.key == {"user_id": user, "user_gender": gender}
    for asked in (user, f"{user},{gender},", f"{user}\n,{gender}", ""):
        with pytest.raises(WrongUsage, match="Write user_id, user_gender as in the files"):
            lookups.customer(january.connection, asked, [users])


@pytest.mark.parametrize("key", [["HB", " 1"], ["Zürich, HB", 2], ['a "b"', True]], ids=str)
def test_a_key_that_diff_shows_is_one_that_history_takes(key: list[Any]) -> None:
    one = lookups.TableDifference("tills", 1, 1, 0, 0, 0, 1, {"taken": 1}, [{"key": key, "changes": {"taken": [1, 2]}}])
    [_, shown] = reading._changes(one)
    written, change = str(shown).strip().rsplit("  ", 1)
    assert next(csv.reader([written])) == ["true" if value is True else str(value) for value in key]
    assert change == "taken 1 -> 2"


def test_diff_counts_rows_and_columns(february: Streamflow) -> None:
    found = {one["table"]: one for one in february.ok("diff", "000", "001", "--rows", "2", "--json").json["tables"]}
    history = february.history()
    for table in TABLES:
        names = [n for (n,) in february.rows(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 order by attnum",
            f"{table}_snapshots",
        )]  # fmt: skip
        dates: dict[str, dict[str, dict[str, object]]] = {}
        for row in history[table]:
            cells = dict(zip(names, row, strict=True))
            dates.setdefault(str(cells.pop("as_of")), {})[str(cells["user_id"])] = cells
            del cells["observed_as_of"]
        a, b = dates["2024-01-31"], dates["2024-02-29"]
        both = a.keys() & b.keys()
        one = found[table]
        assert (one["only_first"], one["only_second"]) == (len(a.keys() - b.keys()), len(b.keys() - a.keys()))
        assert one["different"] == sum(a[user] != b[user] for user in both)
        assert one["equal"] == sum(a[user] == b[user] for user in both)
        for column, changed in one["columns"].items():
            assert changed == sum(a[user][column] != b[user][column] for user in both), (table, column)
        assert len(one["samples"]) == min(2, one["different"])
        for sample in one["samples"]:
            for column, (old, new) in sample["changes"].items():
                was, becomes = a[sample["key"]][column], b[sample["key"]][column]
                assert [old, new] == [json.loads(json.dumps(value, default=str)) for value in (was, becomes)]
    shown = re.sub(rb"\x1b\[[0-9;]*m", b"", in_a_terminal(february, "diff", "0", "2024-02", COLUMNS="80")).splitlines()
    assert any(b" -> " in line for line in shown)
    assert max(map(len, shown)) == 80, "folded between words"


def test_diff_of_a_month_that_is_not_published_is_wrong_usage(january: Streamflow) -> None:
    for arguments in (("000", "001"), ("nonsense", "000"), ("000", "000", "--table", "nothing")):
        result = january("diff", *arguments)
        assert result.code == 2
        assert result.out == ""
    said = "month 001 is not published, or is being restated. There are: 000 (2024-01-31)."
    assert said in january("diff", "000", "001").err


def test_an_error_is_json_too(streamflow: Streamflow) -> None:
    for command in ("status --frob", "diff 0 9", "history x", "ingest", "ingest abc"):
        result = streamflow(*command.split(), "--json")
        assert result.code == result.json["exit_code"] == 2, command
        assert result.json["error"] in " ".join(result.err.split()), command


def test_no_database_is_json_too(streamflow: Streamflow) -> None:
    streamflow.environment["POSTGRES_HOST"] = "/nowhere"
    result = streamflow("status", "--json")
    assert result.code == result.json["exit_code"] == 3


def test_a_result_is_one_json_document(january: Streamflow) -> None:
    for command in ("status", "verify", "models", "db uri", "db status", "diff 0 0"):
        assert january.ok(*command.split(), "--json").json is not None, command


def test_status_begins_with_what_the_on_call_engineer_asks(january: Streamflow) -> None:
    lines = january.ok("status").out.splitlines()
    assert lines[0].startswith("newest: 000, as of 2024-01-31 (")
    assert lines[1] == "under way: nothing"
    january.connection.execute("insert into ops.loads (command, month, as_of, started_by, data_dir, versions)"
                               " values ('ingest', '001', '2024-02-29', 'me', '/', '{}')")  # fmt: skip
    assert "unfinished: 001, whose last attempt was cut off: streamflow ingest 001" in january.ok("status").out
    january.connection.execute("update ops.loads set command = 'check' where month = '001'")
    assert "unfinished" not in january.ok("status").out, "a check begins nothing"
    january.connection.execute("update ops.loads set command = 'ingest' where month = '001'")
    january.connection.execute("select pg_advisory_lock(%s, %s)", [0x5F10, 1])
    text = january.ok("status").out
    assert "under way: ingest of month 001, begun by me" in text
    assert "unfinished" not in text


def test_status_fits_a_screen(january: Streamflow, months: Path) -> None:
    digest = hashlib.sha256((months / "month_000" / "labels.csv").read_bytes()).hexdigest()[:16]
    assert digest not in january.ok("status").out
    hashes = january.ok("status", "--hashes").out
    assert digest in hashes
    assert "dbt_expectations" in hashes, "which one audited"
    january.connection.execute(
        "insert into ops.loads (command, month, as_of, started_by, data_dir, versions, state)"
        " select 'ingest', to_char(n, 'FM000'), date '2024-01-31' + n, 'me', '/', '{}', 'refused'"
        " from generate_series(1, 30) as n"
    )
    rows = re.compile(r"^\d{3}  ", re.MULTILINE)
    short = january.ok("status").out
    assert len(rows.findall(short)) == 12
    assert "and 19 earlier months: streamflow status --all" in short
    assert len(rows.findall(january.ok("status", "--all").out)) == 31


def begun_and_not_published(january: Streamflow, state: str) -> None:
    """Enter a month of which one table has history, after an attempt that ended in `state`."""
    january.connection.execute(
        "with load as ("
        " insert into ops.loads (command, month, as_of, started_by, data_dir, versions, state)"
        " values ('ingest', '001', '2024-02-29', 'me', '/', '{}', %s) returning load_id, as_of"
        ") insert into ops.history"
        " (table_name, as_of, load_id, rows_delivered, rows_total, partition_name, checksum, checksum_columns)"
        " select 'labels', as_of, load_id, 1, 1, 'history.labels_2024_02_29', 0, '{}' from load",
        [state],
    )


@pytest.mark.parametrize("state", ["failed", "landed", "interrupted"])
def test_status_says_what_to_do_with_a_month_that_is_not_finished(january: Streamflow, state: str) -> None:
    begun_and_not_published(january, state)
    text = january.ok("status").out
    assert text.count("not finished: 001, begun and not published: streamflow ingest 001 --data-dir /; or give it") == 1
    assert "unfinished" not in text
    assert [month["state"] for month in january.ok("status", "--json").json] == ["published", "not finished"]
    january.connection.execute("select pg_advisory_lock(%s, %s)", [0x5F10, 1])
    assert "begun and not published" not in january.ok("status").out, "somebody is at it"


def test_status_says_what_to_do_with_a_restatement_that_is_not_finished(january: Streamflow) -> None:
    january.connection.execute(
        "with load as ("
        " insert into ops.loads (command, month, as_of, started_by, data_dir, versions, state, restates, reason)"
        " values ('ingest', '000', '2024-01-31', 'me', '/', '{}', 'interrupted', true, 'wrong') returning load_id"
        ") update ops.history set load_id = load.load_id from load where table_name = 'labels'"
    )
    expected = (
        "not finished: 000, which was being restated: streamflow ingest 000 --data-dir / with --restate; or give it"
    )
    assert expected in january.ok("status").out


def test_status_names_the_models_that_failed_after_publishing(january: Streamflow, months: Path) -> None:
    january.connection.execute("update ops.loads set failed_nodes = array['mine', 'is_false_mine']")
    expected = f"failed: mine, is_false_mine, after 000 was published: streamflow ingest 000 --data-dir {months}"
    assert expected in january.ok("status").out.splitlines()


def test_logs_as_json(streamflow: Streamflow, months: Path) -> None:
    streamflow.environment["STREAMFLOW_LOG_FORMAT"] = "json"
    result = streamflow.ok("ingest", "000", "--data-dir", months)
    entries = [json.loads(line) for line in result.err.splitlines()]
    assert all({"time", "level", "event", "message"} <= entry.keys() for entry in entries)
    done = [entry for entry in entries if entry["event"] == "step_done"]
    assert {entry["step"] for entry in done} == {"landing", "audits and tables"}
    assert all(entry["month"] == "000" and entry["seconds"] >= 0 for entry in done)
    for arguments in (("frob",), ("diff", "0", "9"), ("ingest", "077")):
        [entry] = [json.loads(line) for line in streamflow(*arguments).err.splitlines()]
        assert (entry["level"], entry["event"]) == ("error", "error")


def test_a_refusal_in_the_log_as_json(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    streamflow.environment["STREAMFLOW_LOG_FORMAT"] = "json"
    next(copy_month(months, "000", tmp_path).rglob("labels.csv")).unlink()
    result = streamflow("ingest", "000", "--data-dir", tmp_path, "--json")
    [refused] = [entry for line in result.err.splitlines() if (entry := json.loads(line))["event"] == "refused"]
    assert (refused["month"], refused["problems"], refused["message"]) == ("000", 1, result.json["message"])
    assert refused["rejects"].endswith("month_000.csv")


def run(streamflow: Streamflow, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program in a process of its own, its output into pipes."""
    environment = {**os.environ, **streamflow.environment, "PYTHONPATH": str(REPOSITORY), **more}
    environment = {name: value for name, value in environment.items() if value}
    return subprocess.run([*PROGRAM, *arguments], env=environment, capture_output=True, check=False)


IN_BASH = """
streamflow --install-completion >&2
. ~/.bashrc
complete -p streamflow >&2 || exit
COMP_WORDS=(streamflow his) COMP_CWORD=1
_streamflow_completion streamflow
echo "${COMPREPLY[@]}"
"""
"""Installs completion as a person does, and asks for it as bash does when the tab key is pressed."""


def test_what_install_completion_installs_completes_commands_in_bash(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": search}
    command = [bash, "--norc", "-c", IN_BASH]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "history\n", result.stderr


def in_a_terminal(streamflow: Streamflow, *arguments: str, **more: str) -> bytes:
    """What the program writes into a terminal."""
    terminal, side = pty.openpty()
    environment = {**os.environ, **streamflow.environment, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}
    del environment["NO_COLOR"]
    environment |= more
    with subprocess.Popen([*PROGRAM, *arguments], env=environment, stdin=side, stdout=side, stderr=side) as process:
        os.close(side)
        text = b""
        while True:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the program has closed its side
                break
            if not piece:
                break
            text += piece
        process.wait()
    os.close(terminal)
    return text


@pytest.mark.parametrize("arguments", [("--help",), ("status", "--frob"), ("diff", "0", "9")], ids=" ".join)
def test_colour_is_for_terminals_only(streamflow: Streamflow, arguments: tuple[str, ...]) -> None:
    assert COLOUR.search(in_a_terminal(streamflow, *arguments))
    assert not COLOUR.search(in_a_terminal(streamflow, *arguments, NO_COLOR="1"))
    done = run(streamflow, *arguments, NO_COLOR="", GITHUB_ACTIONS="")
    assert b"\x1b" not in done.stdout + done.stderr
    forced = run(streamflow, *arguments, NO_COLOR="", FORCE_COLOR="1")
    assert COLOUR.search(forced.stdout + forced.stderr)
