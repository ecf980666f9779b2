"""Months at a remote address, and months that `--wait` waits for."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loader.contract.tables import load_contract
from loader.delivery import remote, waiting
from loader.delivery.month import find_delivery, redacted
from loader.delivery.remote import Listing, RemoteFolder
from loader.errors import SurroundingsFailed
from loader.settings import Settings
from tests.conftest import Streamflow
from tests.files import copy_month


@contextmanager
def served(
    folder: Path, cut: Callable[[str], bool] = lambda _: False, answer: Callable[[str], int | None] = lambda _: None
) -> Iterator[str]:
    """Serve a folder by HTTP. Files that `cut` picks end in the middle; a code from `answer` replaces the response."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

        def send_head(self) -> Any:
            code = answer(self.path)
            if code:
                self.send_error(code)
            if code is not None:  # 0: no answer at all
                self.close_connection = True
                return None
            return super().send_head()

        def copyfile(self, source: Any, outputfile: Any) -> None:
            if not cut(self.path):
                with suppress(ConnectionError):  # the client has given up
                    super().copyfile(source, outputfile)
                return
            whole = source.read()
            outputfile.write(whole[: len(whole) // 2])
            outputfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_month_on_a_web_server(streamflow: Streamflow, months: Path) -> None:
    """One file is cut off at first, another is unavailable at first; no secret of the address is written down."""
    asked: list[str] = []
    looked: list[str] = []

    def cut(path: str) -> bool:
        asked.append(path)
        return asked.count(path) == 1 and path.endswith("labels.csv")

    def answer(path: str) -> int | None:
        looked.append(path)
        return 503 if looked.count(path) <= 2 and path.endswith("users.csv") else None

    with served(months, cut, answer) as address:
        with_password = address.replace("//", "//somebody:secret@")
        done = streamflow("ingest", "000", "--data-dir", with_password, "--json")
        assert (done.code, done.json["state"]) == (0, "published"), done
        assert streamflow.ok("ingest", "000", "--data-dir", address, "--json").json["state"] == "unchanged"
        assert streamflow("ingest", "009", "--data-dir", address).code == 4
        assert streamflow("ingest", "009", "--data-dir", f"{address}/?token=secret").code == 2
        assert streamflow("ingest", "001", "--data-dir", address, "--dry-run").code == 0
    assert asked.count("/month_000/labels.csv") == 3
    assert streamflow.value("select data_dir from ops.loads where load_id = 1") == address
    home = Path(streamflow.environment["STREAMFLOW_HOME"])
    assert not any(b"secret" in path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert list((home / "incoming").iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_another_one_fetches_stays(january: Streamflow, months: Path) -> None:
    """The other one may run in another container, where process ids mean nothing."""
    incoming = Path(january.environment["STREAMFLOW_HOME"]) / "incoming"
    for name in ("left", "in use"):
        (incoming / name).mkdir(parents=True)
        (incoming / name / "users.csv").write_text("user_id\n")
    opened = os.open(incoming / "in use", os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    with served(months) as address:
        january.ok("ingest", "000", "--data-dir", address)
    os.close(opened)
    assert [path.name for path in incoming.rglob("*")] == ["in use", "users.csv"]


def test_a_download_that_never_comes_whole_changes_nothing(january: Streamflow, months: Path) -> None:
    with served(months, lambda path: path.endswith("labels.csv")) as address:
        result = january("ingest", "001", "--data-dir", address)
    assert result.code == 3
    assert f"{address} cannot be read" in result.err
    assert january.value("select count(*) from ops.loads") == 1
    assert january("ingest", "001", "--data-dir", address).code == 3, "nobody listens"


@pytest.mark.long
def test_an_archive_and_a_folder_that_is_not_listed(streamflow: Streamflow, months: Path, tmp_path: Path) -> None:
    copy_month(months, "000", tmp_path)
    shutil.make_archive(str(tmp_path / "2024-02"), "zip", months / "month_001")
    with served(tmp_path, answer=lambda path: 403 if path.endswith("month_000/") else None) as address:
        streamflow.ok("ingest", "000..001", "--data-dir", address)
        (tmp_path / "2024-01.zip").touch()
        both = streamflow("ingest", "000", "--data-dir", address)
    assert both.code == 1
    assert "2024-01.zip is there too: take one of them away" in both.err
    assert streamflow.value("select count(*) from published_months") == 2


def january_at(place: RemoteFolder, *wanted: str) -> Listing:
    """The files of month 000 at a place; if `wanted` is given, those with these names."""
    tables = [table.model_copy(update={"files": name}) for table, name in zip(load_contract(), wanted, strict=False)]
    return place.month(find_delivery(Settings(), 0, place.address), tables or load_contract())


def test_names_that_an_address_cannot_have_as_they_are(tmp_path: Path) -> None:
    """A web server lists such names percent-encoded."""
    names = ["50% off & more.csv", 'it\'s "%41" ü #1.csv', "plain.csv"]
    (tmp_path / "100% ours" / "2024-01").mkdir(parents=True)
    for name in names:
        (tmp_path / "100% ours" / "2024-01" / name).write_text(name, encoding="utf-8")
    with served(tmp_path) as address:
        place = RemoteFolder(f"{address}/100% ours")
        assert sorted(january_at(place, *names)) == sorted(f"2024-01/{name}" for name in names)
        for name in names:
            place.fetch(f"2024-01/{name}", tmp_path / "fetched")
            assert (tmp_path / "fetched").read_text(encoding="utf-8") == name


def test_a_server_that_does_not_answer_has_not_said_that_a_file_is_not_there(months: Path) -> None:
    with served(months, answer=lambda path: 0 if path.endswith("labels.csv") else None) as address:
        place = RemoteFolder(address)
        with pytest.raises(SurroundingsFailed, match="Server disconnected"):
            january_at(place)
    with pytest.raises(SurroundingsFailed) as failed:
        place.fetch("month_000/users.csv", months / "never")
    assert str(failed.value).count("cannot be read") == 1


def test_a_server_may_be_slow(months: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, aiohttp allows five minutes for a whole file; here it allows no time at all."""
    import aiohttp

    monkeypatch.setattr(aiohttp.client, "DEFAULT_TIMEOUT", aiohttp.ClientTimeout(total=1e-9))
    with served(months) as address:
        RemoteFolder(address).fetch("month_000/labels.csv", tmp_path / "slow")


def test_a_server_may_not_be_silent(months: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would answer in the end: what is not given up comes whole."""
    monkeypatch.setattr(remote, "SILENCE", 0.1)
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    given_up = threading.Event()

    def answer(_: str) -> None:
        given_up.wait(20)

    with served(months, answer=answer) as address:
        with pytest.raises(SurroundingsFailed, match="imeout"):
            RemoteFolder(address).fetch("month_000/labels.csv", tmp_path / "silent")
        given_up.set()


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit])
def test_who_interrupts_is_obeyed_at_once(ends: type[BaseException]) -> None:
    attempts = iter(range(9))

    def interrupted() -> None:
        next(attempts)
        raise ends

    with pytest.raises(ends):
        RemoteFolder("http://127.0.0.1:9")._with_retries(interrupted)
    assert next(attempts) == 1


def test_what_is_forbidden_is_not_asked_for_again(streamflow: Streamflow, months: Path) -> None:
    asked: list[str] = []

    def answer(path: str) -> int | None:
        asked.append(path)
        return 403 if path.endswith(".csv") else None

    with served(months, answer=answer) as address:
        result = streamflow("ingest", "000", "--data-dir", address)
    assert result.code == 4, "some stores answer so for what is not there"
    assert "or forbids that it is read (403)" in result.err
    assert asked.count("/month_000/labels.csv") <= 2, "its size, in two ways"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftpx://host/exports", "supported: gcs, gs, http"),
        ("gs://bucket/exports", "pip install gcsfs"),
        ("s3://key:secret@bucket/exports", "s3://bucket/exports has user:password@, which it does not take"),
        ("s3://key:sec/ret@bucket/exports", "s3://bucket/exports has user:password@"),
        ("sftp://user:secret/word@host/exports", "a / or # in user:password@ that is not written as %2F"),
        ("http://user:secret#word@host/exports", "a / or # in user:password@ that is not written as %2F"),
    ],
)
def test_an_address_that_cannot_be_read_is_wrong_usage(streamflow: Streamflow, address: str, said: str) -> None:
    if address.startswith("gs:") and importlib.util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    result = streamflow("ingest", "000", "--data-dir", address)
    assert result.code == 2
    assert said in result.err
    assert not re.search("sec|ret", result.err)


def test_a_month_in_s3(streamflow: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: it is in the extra s3")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
        streamflow.environment[name] = value
    try:
        store = s3fs.S3FileSystem()
        store.mkdir("bucket")
        store.put(str(months / "month_000"), "bucket/exports/month_000", recursive=True)
        streamflow.ok("ingest", "000", "--data-dir", "s3://bucket/exports")
        assert streamflow("ingest", "001", "--data-dir", "s3://bucket/exports").code == 4
        misspelt = streamflow("ingest", "001", "--data-dir", "s3://bukcet/exports")
        assert (misspelt.code, "s3://bukcet/exports is missing" in misspelt.err) == (4, True), misspelt
    finally:
        server.stop()
    assert streamflow.value("select data_dir from ops.loads where load_id = 1") == "s3://bucket/exports"


def test_a_month_in_google_cloud_storage(streamflow: Streamflow, months: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gcsfs = pytest.importorskip("gcsfs", reason="gcsfs is not installed: it is in the extra gs")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    try:
        gcsfs.GCSFileSystem().put(str(months / "month_000"), "bucket/exports/month_000", recursive=True)
        streamflow.ok("ingest", "000", "--data-dir", "gs://bucket/exports")
        assert streamflow("ingest", "001", "--data-dir", "gs://bucket/exports").code == 4
        misspelt = streamflow("ingest", "001", "--data-dir", "gs://bukcet/exports")
        assert (misspelt.code, "gs://bukcet/exports is missing" in misspelt.err) == (4, True), misspelt
    finally:
        server.stop()


def test_a_month_is_waited_for(
    january: Streamflow, months: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait ends once all files are there and two looks in a row find the same."""
    steps: list[Callable[[], object]] = [
        (tmp_path / "month_001").mkdir,
        lambda: shutil.copy(months / "month_001" / "users.csv", tmp_path / "month_001"),
        lambda: shutil.copytree(months / "month_001", tmp_path / "month_001", dirs_exist_ok=True),
        lambda: None,
    ]
    monkeypatch.setattr(waiting, "sleep", lambda _: steps.pop(0)())
    assert january("ingest", "001", "--data-dir", tmp_path).code == 4
    assert len(steps) == 4
    result = january.ok("ingest", "001", "--data-dir", tmp_path, "--wait", "6h")
    assert "waiting for month 001" in result.err
    assert steps == []
    copy_month(months, "002", tmp_path)
    labels = tmp_path / "month_002" / "labels.csv"
    text = labels.read_text()
    labels.write_text(text[: len(text) // 2])
    steps += [lambda: labels.write_text(text), lambda: None]
    january.ok("ingest", "002", "--data-dir", tmp_path, "--wait", "6h")
    assert steps == []
    assert january.value("select count(*) from published_months") == 3


def test_a_look_that_fails_is_not_taken_for_the_one_before(
    january: Streamflow, months: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file grows in the first pause, and again in the pause after the look that fails."""
    labels = copy_month(months, "001", tmp_path) / "labels.csv"
    text, look, failing = labels.read_text(), waiting._listing, list[bool]()
    labels.write_text(text[: len(text) // 4])

    def may_fail(*arguments: Any) -> Any:
        if failing and failing.pop():
            raise SurroundingsFailed("the server does not answer")
        return look(*arguments)

    steps: list[Callable[[], object]] = [
        lambda: labels.write_text(text[: len(text) // 2]),
        lambda: failing.append(True),
        lambda: labels.write_text(text),
        lambda: None,
    ]
    monkeypatch.setattr(waiting, "sleep", lambda _: steps.pop(0)())
    monkeypatch.setattr(waiting, "_listing", may_fail)
    january.ok("ingest", "001", "--data-dir", tmp_path, "--wait", "6h")
    assert steps == []


def test_patience_has_an_end(january: Streamflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PAUSE", 0.01)
    assert january("ingest", "001", "--data-dir", tmp_path, "--wait", "1s").code == 4
    assert "write it like 90s" in january("ingest", "001", "--wait", "soon").err
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    wrong = january("ingest", "001", "--data-dir", "http://127.0.0.1:9", "--wait", "6h")
    assert (wrong.code, "cannot be read" in wrong.err) == (3, True), "a wrong address is told at once"


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("sftp://user:p@ss@host/x", "sftp://host/x"),
        ("sftp://user:p/w@host/x", "sftp://host/x"),
        ("sftp://user:p w@host/x", "sftp://host/x"),
        ("sftp://user:p'w\"@host/x", "sftp://host/x"),
        ("https://host/x?signature=abc of a file", "https://host/x of a file"),
        ("s3://bucket/exports", "s3://bucket/exports"),
    ],
)
def test_what_is_secret_in_an_address_is_not_written_down(address: str, written: str) -> None:
    assert redacted(address) == written
