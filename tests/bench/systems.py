"""The systems that the benchmark compares: each ingests one month into a database of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from loader.settings import Settings
from tests.bench.machine import REPOSITORY, Server, Timing, timed

Ingest = Callable[[Server, Path, int], Timing]
"""Takes the server, the folder of months and the month's number."""

PEERS = REPOSITORY.parent / "shared" / "peers"
RIVAL = Path(__file__).with_name("rival.sql")


def streamflow(server: Server, data: Path, month: int) -> Timing:
    """`streamflow ingest`, all audits on."""
    return command(server, "ingest", f"{month:03d}", "--data-dir", str(data))


def command(server: Server, *arguments: str) -> Timing:
    """Any streamflow command on the benchmark's database."""
    return timed([str(Path(sys.executable).with_name("streamflow")), *arguments], server.environment("streamflow"))


def psql_script(server: Server, data: Path, month: int) -> Timing:
    """rival.sql with psql: copy, upsert, history; no audit."""
    variables = [f"as_of={Settings().as_of(month)}", f"month={data}/month_{month:03d}", "ON_ERROR_STOP=1"]
    options = [part for variable in variables for part in ("--set", variable)]
    return timed(["psql", *options, "--quiet", "--file", str(RIVAL), server.uri("psql")])


def dlt(server: Server, data: Path, month: int) -> Timing:
    """dlt: upsert only; no history, no audit."""
    uri = server.uri("dlt", user="postgres:any")
    script = [os.environ["BENCH_DLT_PYTHON"], str(PEERS / "peer_dlt.py"), uri, f"{data}/month_{month:03d}", "peer"]
    return timed(script, {"RUNTIME__DLTHUB_TELEMETRY": "false"})


def prefect(server: Server, data: Path, month: int) -> Timing:
    """A Prefect flow with pandas, SQLAlchemy and Great Expectations: upsert, some audits afterwards, history."""
    uri = server.uri("prefect", "postgresql+psycopg2")
    arguments = [uri, f"{data}/month_{month:03d}", str(Settings().as_of(month)), "peer"]
    script = [os.environ["BENCH_PREFECT_PYTHON"], str(PEERS / "peer_prefect_pandas.py"), *arguments]
    return timed(script, {"PREFECT_LOGGING_LEVEL": "ERROR"})


def rivals() -> dict[str, Ingest]:
    """Name -> its function, streamflow first; dlt and Prefect only if shared/peers and their Pythons are there."""
    systems: dict[str, Ingest] = {"streamflow": streamflow, "psql": psql_script}
    for name, run in (("dlt", dlt), ("prefect", prefect)):
        if PEERS.is_dir() and os.environ.get(f"BENCH_{name.upper()}_PYTHON"):
            systems[name] = run
    return systems
