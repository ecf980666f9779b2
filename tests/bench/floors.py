"""The seconds of each step of a month, beside its floor: the least that PostgreSQL needs for the same rows."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from loader.database import Connection, statement
from tests.bench.machine import REPOSITORY, Server
from tests.bench.systems import command

TABLES = ("users", "subscriptions", "usage_agg_30d", "payments_agg_90d", "support_agg_90d", "labels")
FILES_AT_ONCE = 2
STEPS = {
    "landing": "COPY",
    "audits": "one read of each table",
    "history": "CREATE TABLE AS, a key",
    "production": "MERGE",
}
"""Step -> the work that its floor consists of."""


def measure(server: Server, data: Path) -> dict[str, list[list[float]]]:
    """Step -> its seconds in the second month of `data`, and the seconds of its floor.

    Landing is clock time. The other steps are the sum of their nodes' or tables' seconds; dbt runs two nodes at once.
    """
    command(server, "ingest", "000", "--data-dir", str(data))
    month = json.loads(command(server, "ingest", "001", "--data-dir", str(data), "--json").output)
    taken = {"landing": month["timings"]["landing"], **_nodes()}
    floors = dict.fromkeys(STEPS, 0.0)
    with psycopg.connect(server.uri("streamflow"), autocommit=True) as connection:
        connection.execute("create schema floor")
        for table in TABLES:
            for step, seconds in _floors_of(connection, table, data / "month_001").items():
                floors[step] += seconds
    floors["landing"] = _copy(server, data / "month_001")
    return {step: [[round(taken[step], 2), round(floors[step], 2)]] for step in STEPS}


def _nodes() -> dict[str, float]:
    """Step -> the seconds of its dbt nodes in the last run."""
    results = json.loads((REPOSITORY / "dbt_project" / "target" / "run_results.json").read_text(encoding="utf-8"))
    seconds = {node["unique_id"].split(".")[2]: node["execution_time"] for node in results["results"]}
    return {
        "audits": sum(taken for name, taken in seconds.items() if name.startswith("audit_")),
        "history": sum(seconds[f"{table}_snapshots"] for table in TABLES),
        "production": sum(seconds[table] for table in TABLES),
    }


def _floors_of(connection: Connection, table: str, month: Path) -> dict[str, float]:
    """Step -> the seconds of its floor, for one table that staging and history hold."""
    with (month / f"{table}.csv").open(encoding="utf-8") as file:
        columns = file.readline().strip().split(",")
    changes = (sql.SQL("{0} = new.{0}").format(sql.Identifier(name)) for name in columns if name != "user_id")
    parts = {
        "staging": sql.Identifier("staging", table),
        "history": sql.Identifier("public", f"{table}_snapshots"),
        "new_history": sql.Identifier("floor", f"{table}_snapshots"),
        "production": sql.Identifier("floor", table),
        "landed": sql.Identifier("floor", f"{table}_landed"),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
        "values": sql.SQL(", ").join(sql.Identifier("new", name) for name in columns),
        "changes": sql.SQL(", ").join(changes),
    }
    run = partial(_seconds, connection, parts)
    run("landing")
    run("month_before")
    run("at_rest")
    return {
        "audits": run("audits"),
        "history": run("history") + run("key"),
        "production": run("production"),
    }


def _seconds(connection: Connection, parts: dict[str, sql.Composable], name: str) -> float:
    began = time.perf_counter()
    connection.execute(statement(__file__, name).format(**parts))
    return time.perf_counter() - began


def _copy(server: Server, month: Path) -> float:
    def copy(table: str) -> None:
        copied = f"\\copy floor.{table}_landed from '{month / table}.csv' with (format csv, header)"
        subprocess.run(
            ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", copied, server.uri("streamflow")], check=True
        )

    began = time.perf_counter()
    with ThreadPoolExecutor(FILES_AT_ONCE) as files:
        list(files.map(copy, TABLES))
    return time.perf_counter() - began
