"""Whatever a command is given, and wherever its output goes, it ends with the right exit code and no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psycopg
import pytest

from loader.database.retries import failure
from loader.errors import REMEDIES, complaint
from loader.project import VARIABLE, project
from tests.conftest import REPOSITORY, TABLES, Streamflow
from tests.files import copy_month
from tests.pauses import PATIENCE, paused, start
from tests.test_crashes import wait_until

PROGRAM = [sys.executable, "-c", "from loader.cli.program import program; program()"]
Word = str | bytes | Path


def ended(
    streamflow: Streamflow,
    *arguments: Word,
    stdout: int | IO[bytes] = subprocess.PIPE,
    more: Mapping[str, str] | None = None,
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program in a process of its own."""
    environment = {**os.environ, **streamflow.environment, "PYTHONPATH": str(REPOSITORY), **(more or {})}
    done = subprocess.run(
        [*PROGRAM, *arguments], env=environment, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=PATIENCE
    )
    err = done.stderr.decode()
    assert "Traceback" not in err
    return done.returncode, (done.stdout or b"").decode(), err


STARTS = """
import os, signal, sys
from loader.cli.program import program

class Sends:
    def find_spec(self, name, path=None, target=None):
        if name == "loader.cli.main":
            os.kill(os.getpid(), int(sys.argv[1]))

sys.meta_path.insert(0, Sends())
signal.signal(signal.SIGINT, signal.default_int_handler)
program()
"""
"""The program, which gets a signal when it begins to import its commands, even if the tests ignore SIGINT."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_while_it_starts_says_so(number: signal.Signals) -> None:
    words = [sys.executable, "-c", STARTS, str(int(number))]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "streamflow: interrupted\n")


WORDS: list[tuple[str, ...]] = [
    ("{}",),
    ("ingest", "{}"),
    ("ingest", "000", "--data-dir", "months/{}"),
    ("ingest", "000", "--restate", "--reason", "{}"),
    ("history", "{}"),
    ("history", "{}", "--json"),
    ("diff", "{}", "000"),
    ("training-set", "--as-of", "{}", "--label-as-of", "2024-01-31"),
    ("report", "000", "--out", "{}.html"),
    ("models", "{}"),
    ("db", "{}"),
]


def test_words_that_are_not_utf_8(streamflow: Streamflow) -> None:
    for words in WORDS:
        result = streamflow(*(word.format(os.fsdecode(b"\xff")) for word in words))
        assert result.code == 2, words
        assert "\\xff" in result.err, words
        assert "is not UTF-8" in result.err, words


@pytest.mark.parametrize("words", [(b"\xff",), ("ingest", "000", "--data-dir", b"/tmp/\xff")], ids=repr)
def test_words_that_are_not_utf_8_end_the_program(streamflow: Streamflow, words: Sequence[Word]) -> None:
    code, _, err = ended(streamflow, *words)
    assert code == 2
    assert "\\xff" in err
    assert "is not UTF-8" in err


def told_of_settings(streamflow: Streamflow, value: str, *names: str) -> None:
    """Set each of these settings to that value: the error names the setting."""
    kept = streamflow.environment
    for name in names:
        streamflow.environment = {**kept, name: value}
        result = streamflow("status")
        assert result.code == 2, name
        assert name in result.err


def test_settings_that_are_not_utf_8(streamflow: Streamflow) -> None:
    names = ("STREAMFLOW_HOME", "STREAMFLOW_DATA_DIR", "POSTGRES_DB", "STREAMFLOW_LINKS_TO")
    told_of_settings(streamflow, os.fsdecode(b"/tmp/\xff"), *names)


@pytest.mark.long
def test_file_names_that_are_not_utf_8(january: Streamflow, months: Path, tmp_path: Path) -> None:
    folder = copy_month(months, "001", tmp_path)
    (folder / "labels.csv").rename(folder / os.fsdecode(b"labels.cs\xff"))
    code, _, err = ended(january, "check", "001", "--data-dir", tmp_path)
    assert code == 1
    assert 'labels.csv  the file is missing: did you mean "labels.cs\\xff"?' in err


def test_nobody_s_home(streamflow: Streamflow) -> None:
    for words in (("ingest", "000"), ("ingest",), ("check", "0")):
        result = streamflow(*words, "--data-dir", "~no-such-user/x")
        assert result.code == 2, words
        assert "~no-such-user/x cannot be used: there is no user of that name" in result.err


def test_words_that_say_nothing_to_do(streamflow: Streamflow) -> None:
    for words in (("forget", "--reason", "why", "--from", "no-such-file"), ("models", "users", "--check")):
        result = streamflow(*words)
        assert result.code == 2, words
        assert words[-1] in result.err


def test_no_project_to_be_found(
    streamflow: Streamflow, use_project: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_project(Path("~no-such-user"))
    result = streamflow("status")
    assert (result.code, "no user of that name" in result.err) == (2, True)
    monkeypatch.delenv(VARIABLE)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    project.cache_clear()
    assert streamflow("--version").code == 0
    result = streamflow("status")
    assert (result.code, "the current folder was removed" in result.err) == (2, True)


@pytest.mark.usefixtures("use_project")  # later tests find the repository's own project again
def test_the_log_is_as_the_named_project_says(streamflow: Streamflow, copy: Path) -> None:
    (copy / ".env").write_text("STREAMFLOW_LOG_FORMAT=json\n")
    [entry] = [json.loads(line) for line in streamflow("--project-dir", copy, "ingest", "077").err.splitlines()]
    assert entry["level"] == "error"


def test_nobody_s_home_in_the_settings(streamflow: Streamflow) -> None:
    told_of_settings(streamflow, "~no-such-user", "STREAMFLOW_HOME", "STREAMFLOW_DATA_DIR")


@pytest.fixture
def nobody_reads() -> Iterator[IO[bytes]]:
    """A pipe whose reader has gone, as after `| head -1`."""
    there, here = os.pipe()
    os.close(there)
    with os.fdopen(here, "wb") as stream:
        yield stream


READ = [
    *("--help", "status --json", "training-set --as-of 2024-01-31 --label-as-of 2024-01-31"),
    *(
        pytest.param(words, marks=pytest.mark.long)
        for words in ("status", "history nobody", "diff 000 000", "db uri", "verify")
    ),
]


@pytest.mark.parametrize("words", READ)
def test_a_reader_that_has_gone_is_no_failure(january: Streamflow, nobody_reads: IO[bytes], words: str) -> None:
    code, _, err = ended(january, *words.split(), stdout=nobody_reads)
    assert code == (2 if "nobody" in words else 0), err
    assert (err == "") or "nobody" in words or "training-set" in words


@pytest.mark.parametrize("words", READ)
def test_a_result_that_cannot_be_written_is_3(january: Streamflow, words: str) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, err = ended(january, *words.split(), stdout=full)
    assert code == (2 if "nobody" in words else 3)
    assert "the result cannot be written: No space left on device" in err or "nobody" in words


@pytest.mark.parametrize("more", [pytest.param((), marks=pytest.mark.long), ("--json",)], ids=repr)
@pytest.mark.parametrize(
    "where", ["full", *(pytest.param(one, marks=pytest.mark.long) for one in ("nobody reads", "closed"))]
)
def test_the_exit_code_of_an_ingest_is_about_the_month(
    january: Streamflow, months: Path, nobody_reads: IO[bytes], where: str, more: Sequence[str]
) -> None:
    words = ["ingest", "001", "--data-dir", str(months), *more]
    if where == "closed":
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *PROGRAM, *words]
        environment = {**os.environ, **january.environment, "PYTHONPATH": str(REPOSITORY)}
        code = subprocess.run(command, env=environment, check=False).returncode
    elif where == "full":
        with Path("/dev/full").open("wb") as full:
            code, _, err = ended(january, *words, stdout=full)
            assert "the result cannot be written: No space left on device" in err
    else:
        code, _, err = ended(january, *words, stdout=nobody_reads)
    assert code == 0
    assert january.value("select state from ops.loads order by load_id desc limit 1") == "published"
    with Path("/dev/full").open("wb") as full:
        assert ended(january, "ingest", "077", "--data-dir", months, *more, stdout=full)[0] == 4


def test_the_exit_code_of_forgetting_is_about_the_customer(january: Streamflow) -> None:
    user = january.value("select min(user_id) from users")
    with Path("/dev/full").open("wb") as full:
        words = ["--project-dir", str(REPOSITORY), "forget", user, "--reason", "asked for"]
        code, _, err = ended(january, *words, stdout=full)
    assert (code, january.value("select count(*) from users where user_id = %s", user)) == (0, 0)
    assert "the result cannot be written" in err


@pytest.mark.long
def test_progress_that_nobody_reads_does_not_end_an_ingest(january: Streamflow, months: Path) -> None:
    """As with `2>&1 | head -1`."""
    there, here = os.pipe()
    os.close(there)
    environment = {**os.environ, **january.environment, "PYTHONPATH": str(REPOSITORY)}
    words = ["ingest", "001", "--data-dir", str(months)]
    done = subprocess.run([*PROGRAM, *words], env=environment, stdout=here, stderr=here, check=False)
    os.close(here)
    assert done.returncode == 0


@pytest.mark.parametrize("more", [(), ("--json",)], ids=repr)
def test_a_bug_is_a_sentence_and_a_log(
    january: Streamflow, months: Path, more: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loader.pipeline.run.land", lambda *_: TABLES["nothing"])  # type: ignore[call-overload]
    result = january("ingest", "001", "--data-dir", months, *more)
    log = Path(january.environment["STREAMFLOW_HOME"]) / "logs" / "streamflow.log"
    assert result.code == 3
    assert "unexpected error, a bug in streamflow: TypeError: list indices" in result.err
    assert str(log) in result.err
    assert "Traceback" not in result.out + result.err
    assert "Traceback" in log.read_text()
    assert "test_endings.py" in log.read_text()
    [(state, error)] = january.rows("select state, error from ops.loads order by load_id desc limit 1")
    assert (state, error[:9]) == ("failed", "TypeError")
    log.unlink()
    log.mkdir()
    assert "Is a directory" in january("ingest", "001", "--data-dir", months).err


@pytest.mark.long
def test_a_log_on_a_full_disk_ends_nothing(january: Streamflow, months: Path) -> None:
    log = Path(january.environment["STREAMFLOW_HOME"]) / "logs" / "dbt.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    log.symlink_to("/dev/full")
    process = start(january, "ingest", "001", "--data-dir", months)
    _, err = process.communicate(PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "point", ["last history", *(pytest.param(one, marks=pytest.mark.long) for one in ("landing", "dbt begins"))]
)
def test_a_signal_to_end_is_as_an_interrupt(january: Streamflow, months: Path, point: str) -> None:
    with paused(january, point, "ingest", "001", "--data-dir", months, "--json") as run:
        for _ in range(5):  # `timeout` sends it to the process and to its group
            with suppress(subprocess.TimeoutExpired, ProcessLookupError):
                run.process.send_signal(signal.SIGTERM)
                run.process.wait(0.02)
        run.process.wait(PATIENCE)
        wait_until(january, "select count(*) = 0 from pg_stat_activity where application_name like 'streamflow%%'")
    assert run.process.returncode == json.loads(run.said[0])["exit_code"] == 143
    assert run.said[1].endswith("streamflow: interrupted\n")
    assert january.value("select state from ops.loads order by load_id desc limit 1") == "interrupted"
    january.ok("ingest", "001", "--data-dir", months)


STEERING = "\x1b[2J\u202e\u2066"
SHOWN = "\\x1b[2J\\u202e\\u2066"


def test_an_interrupt_is_one_also_if_the_server_no_longer_answers(
    january: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def unanswered(*_: object, **__: object) -> None:
        raise psycopg.errors.CancellationTimeout

    monkeypatch.setattr("loader.landing.copy.take_out", interrupted)
    monkeypatch.setattr(psycopg.Connection, "cancel_safe", unanswered)
    result = january("ingest", "001", "--data-dir", months)
    assert (result.code, "beginning again" in result.err) == (130, False), result.err


def test_nothing_that_is_shown_steers_a_terminal(january: Streamflow, months: Path) -> None:
    """Escape sequences in the ledger, in arguments or in names of variables do not reach the terminal."""
    january.connection.execute(
        "insert into ops.loads"
        " (command, month, as_of, started_by, data_dir, versions, state, error, failed_nodes, files)"
        " select 'ingest', %(s)s, '2024-02-29', %(s)s, '/', '{}', 'failed', %(s)s, array[%(s)s],"
        " jsonb_build_array(jsonb_build_object('file', %(s)s::text, 'rows', 1, 'bytes', 1, 'sha256', ''))",
        {"s": STEERING},
    )
    january.environment["STREAMFLOW_HOM" + STEERING] = "x"
    for words in (("status",), ("doctor",), ("history", STEERING), ("diff", STEERING, "0"), ("status", "--json")):
        result = january(*words)
        for text in (result.out, result.err):
            assert all(character.isprintable() or character in "\n\t" for character in text), words
        assert SHOWN in result.out + result.err or "--json" in words, words
    january.connection.execute("update ops.loads set state = 'running' where state = 'failed'")
    january.connection.execute("select pg_advisory_lock(%s, %s)", [0x5F10, 1])
    assert SHOWN in january.ok("status").out
    for log_format in ("text", "json"):
        january.environment["STREAMFLOW_LOG_FORMAT"] = log_format
        err = january("ingest", "001", "--data-dir", months).err
        assert "another run is under way" in err
        assert all(character.isprintable() or character == "\n" for character in err)


@pytest.mark.parametrize("kind", REMEDIES, ids=lambda kind: kind.__name__)
def test_the_remedy_for_an_error_of_the_database_is_the_same_during_a_run(kind: type[psycopg.Error]) -> None:
    assert REMEDIES[kind] in complaint(kind("it failed"))
    assert REMEDIES[kind] in str(failure("001", kind("it failed")))
