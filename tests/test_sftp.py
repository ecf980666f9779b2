"""Months by SFTP, from a test server that serves this machine's files to one user with a password."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import Streamflow

USER = "somebody"
BREAKS_AT = 100
"""The read at which the connection is lost: some later reads are already requested, others are not yet."""


@dataclass
class Sftp:
    """A running server: its port, its line for known_hosts, its connections and the number of its reads."""

    port: int
    known_host: str
    connections: list[Any] = field(default_factory=list)
    reads: int = 0
    breaks_off: bool = False

    def count_read(self) -> None:
        """Count a read. Read BREAKS_AT loses its connection; with `breaks_off`, every read does."""
        self.reads += 1
        if self.breaks_off or self.reads == BREAKS_AT:
            self.connections[-1].close()


@contextlib.contextmanager
def sftp_server(password: str) -> Iterator[Sftp]:
    """A server on this machine; skips the test if paramiko, which is client and server, is not installed."""
    paramiko: Any = pytest.importorskip("paramiko", reason="paramiko is not installed: it is in the extra sftp")

    class Login(paramiko.ServerInterface):  # type: ignore[misc]
        def check_auth_password(self, username: str, given: str) -> int:
            is_right = (username, given) == (USER, password)
            return int(paramiko.AUTH_SUCCESSFUL if is_right else paramiko.AUTH_FAILED)

        def check_channel_request(self, *_: Any) -> int:
            return int(paramiko.OPEN_SUCCEEDED)

    class Handle(paramiko.SFTPHandle):  # type: ignore[misc]
        def read(self, offset: int, length: int) -> Any:
            server.count_read()
            return super().read(offset, length)

    class Files(paramiko.SFTPServerInterface):  # type: ignore[misc]
        def stat(self, path: str) -> Any:
            try:
                return paramiko.SFTPAttributes.from_stat(os.stat(path), os.path.basename(path))  # noqa: PTH116,PTH119
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno)

        def list_folder(self, path: str) -> Any:
            try:
                return [self.stat(f"{path}/{name}") for name in os.listdir(path)]  # noqa: PTH208
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno)

        def open(self, path: str, *_: Any) -> Any:
            handle = Handle()
            handle.readfile = open(path, "rb")  # noqa: PTH123,SIM115
            return handle

    key = paramiko.ECDSAKey.generate()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = Sftp(port, f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = paramiko.Transport(listener.accept()[0])
                    server.connections.append(connection)
                    connection.add_server_key(key)
                    connection.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
                    with contextlib.suppress(paramiko.SSHException, EOFError):
                        connection.start_server(threading.Event(), Login())

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in server.connections:
                connection.close()


def test_a_month_by_sftp(streamflow: Streamflow, months: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs a known host and the right password; a lost connection is opened again, within a file too."""
    password = "p@ss/w'ord #1"  # noqa: S105 (made up)
    known_hosts = tmp_path / ".ssh" / "known_hosts"
    known_hosts.parent.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with sftp_server(password) as server, sftp_server("") as other:
        place = f"127.0.0.1:{server.port}{tmp_path}/exports"
        address = f"sftp://{USER}:{quote(password, safe='')}@{place}"
        stranger = streamflow("ingest", "000", "--data-dir", address)
        assert (stranger.code, "not found in known_hosts" in stranger.err) == (3, True), stranger
        known_hosts.write_text(other.known_host.replace(str(other.port), str(server.port)))
        impostor = streamflow("ingest", "000", "--data-dir", address)
        assert (impostor.code, "does not match" in impostor.err) == (3, True), impostor
        known_hosts.write_text(server.known_host)
        wrong = streamflow("ingest", "000", "--data-dir", f"sftp://{USER}:wr'ong@{place}", "--json")
        assert (wrong.code, wrong.json["error"]) == (
            3, f"sftp://{place} cannot be read: Authentication failed. Nothing was changed."
        )  # fmt: skip
        misspelt = streamflow("ingest", "000", "--data-dir", address)
        assert (misspelt.code, misspelt.err) == (4, f"streamflow: month 000 is not there: sftp://{place} is missing\n")
        (tmp_path / "exports").symlink_to(months)
        early = streamflow("ingest", "009", "--data-dir", address)
        assert (early.code, "has neither month_009/" in early.err) == (4, True), early
        server.breaks_off = True
        gone = streamflow("ingest", "000", "--data-dir", address)
        assert (gone.code, "cannot be read" in gone.err, "Traceback" in gone.err) == (3, True, False), gone
        server.breaks_off, server.reads = False, 0
        server.connections[-1].close()
        streamflow.ok("ingest", "000", "--data-dir", address)
        assert streamflow.value("select data_dir from ops.loads") == f"sftp://{place}"
        large = tmp_path / "large" / "month_001" / "users.csv"
        large.parent.mkdir(parents=True)
        large.write_bytes(b"a" * 8_000_000)
        broken = streamflow("check", "001", "--data-dir", address.replace("/exports", "/large"))
        assert (broken.code, "Traceback" in broken.err) == (1, False), broken
        assert server.reads > BREAKS_AT + large.stat().st_size // 32_768
