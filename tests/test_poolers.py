"""PgBouncer between streamflow and the server: sessions may be pooled, transactions may not."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loader.database.server import SYSTEM_USER
from tests.conftest import Streamflow
from tests.servers import Server, connect
from tests.test_sessions import WORST, set_to, two_months

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


@contextlib.contextmanager
def pooled(server: Server, streamflow: Streamflow, *settings: str) -> Iterator[Server]:
    """Put a PgBouncer with these settings between the command line and the server; yields where it listens."""
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer"))
    (folder / "users").write_text('"postgres" ""\n')
    lines = [
        "[databases]",
        f"* = host={server.host} port={server.port}",
        "[pgbouncer]",
        f"unix_socket_dir = {folder}",
        "auth_type = trust",
        f"logfile = {folder / 'log'}",
        f"auth_file = {folder / 'users'}",
        *settings,
    ]
    (folder / "pgbouncer.ini").write_text("\n".join(lines))
    if os.geteuid() == 0:
        shutil.chown(folder, SYSTEM_USER)
        lines.append(f"user = {SYSTEM_USER}")
        (folder / "pgbouncer.ini").write_text("\n".join(lines))
    process = subprocess.Popen([str(PROGRAM), "--quiet", str(folder / "pgbouncer.ini")])
    try:
        listening = False
        while not listening:
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(folder / ".s.PGSQL.6432"))
                listening = True
        pool = Server(str(folder), 6432)
        streamflow.environment |= pool.variables
        yield pool
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def locks(streamflow: Streamflow) -> list[Any]:
    """The advisory locks of all sessions."""
    return streamflow.rows("select pid, mode from pg_locks where locktype = 'advisory'")


def test_a_pool_of_sessions(january: Streamflow, server: Server, months: Path) -> None:
    if server.workers:
        pytest.skip("one pool for one server")
    pool_ends = {"idle_session_timeout"}  # the server would end the idle sessions of the pool
    set_to(january, {name: value for name, value in WORST.items() if name not in pool_ends})
    with pooled(server, january, "pool_mode = session"):
        two_months(january, months)
        assert locks(january) == []


@pytest.mark.parametrize("order", ["", "server_round_robin = 1"], ids=["newest first", "in turn"])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pool_of_transactions_is_refused(
    january: Streamflow, server: Server, months: Path, mode: str, order: str
) -> None:
    state = january.state()
    with pooled(server, january, f"pool_mode = {mode}", order) as pool, contextlib.ExitStack() as stack:
        others = [stack.enter_context(contextlib.closing(connect(pool, "streamflow"))) for _ in range(3)]
        for other in others[: 3 if mode == "transaction" else 0]:  # so that the pool has several sessions to give
            other.execute("begin")
        for other in others[: 3 if mode == "transaction" else 0]:
            other.execute("commit")
        for command in (["ingest", "001", "--data-dir", months], ["land", "001", "--data-dir", months], ["status"]):
            refused = january(*command)
            assert refused.code == 3
            assert "a pool with pool_mode = session" in refused.err
        assert locks(january) == []
        assert others[0].execute("show application_name").fetchall() == [("",)], "nothing set for those who come after"
    assert january.state() == state
