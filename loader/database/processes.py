"""The processes of an embedded server: sessions may outlive the server, and the server its data directory.

In a container, root may lack CAP_SYS_PTRACE, and so not see the working directory of another user's process.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 10
"""Seconds to wait for processes to end."""


def is_server(pid: int, data: Path) -> bool:
    """Whether this process is the server of the data directory; the process id may now be that of another process."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        try:
            return bool(process.cwd() == str(data) and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.AccessDenied:
            return _is_command_for(data, process.cmdline())
    return False


def have_ended(data: Path) -> bool:
    """Wait for the processes that work in a data directory; whether all of them have ended.

    Processes of PostgreSQL count if it cannot be seen where they work, and they are of the user who has the data.
    """
    user = data.stat().st_uid

    def is_its_own(seen: dict[str, Any]) -> bool:
        may_be = seen["cwd"] is None and seen["name"] == "postgres" and seen["uids"].real == user
        return bool((may_be or seen["cwd"] == str(data)) and seen["status"] != psutil.STATUS_ZOMBIE)

    processes = psutil.process_iter(["cwd", "name", "status", "uids"])
    _, alive = psutil.wait_procs([one for one in processes if is_its_own(one.info)], timeout=PATIENCE)
    return not alive


def end_server_of_removed(data: Path) -> None:
    """End a server whose data directory was deleted: it would exit within a minute and remove the new one's socket."""
    left = [one for one in psutil.process_iter(["cmdline"]) if _is_command_for(data, one.info["cmdline"] or [])]
    for process in left:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGQUIT)
    psutil.wait_procs(left, timeout=PATIENCE)


def _is_command_for(data: Path, command: list[str]) -> bool:
    """Whether a command starts the server of a data directory."""
    return command[1:3] == ["-D", str(data)]
