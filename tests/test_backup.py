"""A backup made as docs/operations.md says can be restored, passes `verify`, and takes the next month."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loader.database.server import programs
from tests.conftest import Streamflow
from tests.test_server import Embedded


@pytest.fixture
def fresh_server(january: Streamflow, tmp_path: Path) -> Iterator[Embedded]:
    """An empty embedded server of the same version."""
    if january.on_citus:
        pytest.skip("a cluster's backup goes into a cluster: test_scale_out moves a database there")
    embedded = Embedded(tmp_path / "restored", f"pg{january.connection.info.server_version // 10000}")
    embedded.environment["DBT_TARGET_PATH"] = january.environment["DBT_TARGET_PATH"]
    yield embedded
    embedded("db", "stop")


@pytest.mark.long
def test_a_backup_is_restored_into_a_fresh_server(
    january: Streamflow, fresh_server: Embedded, months: Path, tmp_path: Path, undisturbed: Any
) -> None:
    folder = programs(january.connection.info.server_version // 10000)
    dump = tmp_path / "streamflow.dump"
    before = january.state()
    source = january.ok("db", "uri").out.strip()
    subprocess.run([folder / "pg_dump", "--format", "custom", "--file", dump, source], check=True)
    target = fresh_server("db", "uri").stdout.strip()
    restore = [str(folder / "pg_restore"), "--no-owner", "--exit-on-error", "--dbname", target, str(dump)]
    subprocess.run(restore, check=True)

    with psycopg.connect(target, autocommit=True) as connection:
        restored = Streamflow(fresh_server.environment, connection)
        assert restored.state() == before
        assert restored("verify").code == 0
        assert restored.ok("ingest", "000", "--data-dir", months, "--json").json["state"] == "unchanged"
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            connection.execute("delete from labels_snapshots")
        restored.ok("ingest", "001", "--data-dir", months)
        assert restored.state() == undisturbed
        assert restored("verify").code == 0
