"""An SFTP server for tests: this machine's files, read by one user with a password."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

USER = "somebody"


@dataclass
class Sftp:
    """A server that runs: its port, its line of known_hosts, and the connections that it has had."""

    port: int
    known_host: str
    connections: list[Any] = field(default_factory=list)


@contextlib.contextmanager
def sftp_server(password: str) -> Iterator[Sftp]:
    """A server on this machine; skips the test where paramiko is not installed, which is client and server."""
    paramiko: Any = pytest.importorskip("paramiko", reason="paramiko is not installed: it is in the extra sftp")

    class Login(paramiko.ServerInterface):  # type: ignore[misc]
        def check_auth_password(self, username: str, given: str) -> int:
            is_right = (username, given) == (USER, password)
            return int(paramiko.AUTH_SUCCESSFUL if is_right else paramiko.AUTH_FAILED)

        def check_channel_request(self, *_: Any) -> int:
            return int(paramiko.OPEN_SUCCEEDED)

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
            handle = paramiko.SFTPHandle()
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
