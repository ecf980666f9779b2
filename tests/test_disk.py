"""A full disk: an error of one sentence, nothing half done, and the next ingest of that month ends as it should."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Streamflow, environment
from tests.servers import Server, connect
from tests.test_crashes import ends_as_undisturbed


@pytest.fixture
def small_disk(server: Server, january_published: str, tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB that holds the database `streamflow`, a copy of January; yields its folder."""
    if server.workers:
        pytest.skip("the disks of a cluster are somewhere else")
    with contextlib.closing(connect(server, "postgres")) as admin:
        [(directory,)] = admin.execute("select setting from pg_settings where name = 'data_directory'").fetchall()
        data = Path(directory)
        folder = data.parent / f"{data.name}_small"
        folder.mkdir(exist_ok=True)
        owner = data.stat()
        options = f"size=40m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        mounted = subprocess.run(mount, capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("no file system can be mounted here")
        try:
            admin.execute("drop database if exists streamflow with (force)")
            admin.execute(f"create tablespace small location '{folder}'".encode())
            admin.execute(f"create database streamflow template {january_published} tablespace small".encode())
            yield folder
        finally:
            admin.execute("drop database if exists streamflow with (force)")
            admin.execute("drop tablespace if exists small")
            subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kilobytes", [100, *(pytest.param(size, marks=pytest.mark.long) for size in (0, 200, 300))])
def test_the_disk_is_full(
    small_disk: Path, server: Server, dbt_target: Path, months: Path, undisturbed: Any, tmp_path: Path, kilobytes: int
) -> None:
    with contextlib.closing(connect(server, "streamflow")) as connection:
        streamflow = Streamflow(environment(server, dbt_target, tmp_path), connection)
        before = streamflow.latest()
        filler = small_disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 1024 * kilobytes))
        result = streamflow("ingest", "001", "--data-dir", months)
        assert result.code == 3, result
        assert "No space left on device" in result.err or "disk is full" in result.err  # PostgreSQL says either
        assert "month 001 again" in result.err
        assert "Traceback" not in result.err
        assert streamflow.latest() == before
        filler.unlink()
        ends_as_undisturbed(streamflow, months, undisturbed)
