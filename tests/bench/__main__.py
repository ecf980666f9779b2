"""Run the benchmark, keep every measurement in docs/benchmark.json, and write docs/performance.md from it.

    make bench                                   all scenarios but huge: an hour on two cores
    make bench ARGS="--quick"                    small and medium: five minutes
    make bench ARGS="--only small --rounds 3"    one scenario, three times
    make bench ARGS="--only huge"                10,000,000 customers: an hour and 50 GB of disk

A peer takes part if BENCH_DLT_PYTHON or BENCH_PREFECT_PYTHON names a Python that has its packages. A cluster is
measured if BENCH_CITUS_URI names its coordinator, on this machine.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import report, scenarios
from tests.bench.machine import REPOSITORY, running_server

RESULTS = REPOSITORY / "docs" / "benchmark.json"


def main() -> None:
    """Run the chosen scenarios and write the report again."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted(scenarios.ALL), help="some scenarios instead of all")
    parser.add_argument("--quick", action="store_true", help=f"only {' and '.join(scenarios.QUICK)}")
    parser.add_argument("--without", nargs="+", default=[], choices=["psql", "dlt", "prefect"], help="leave rivals out")
    parser.add_argument("--rounds", type=int, default=1, help="how often; added to what was measured before")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--data", type=Path, help="where to make the months, and keep them")
    options = parser.parse_args()

    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() and not options.fresh else {}
    with tempfile.TemporaryDirectory(prefix="streamflow-bench-") as folder, running_server(Path(folder)) as server:
        known["machine"] = {
            "cpus": scenarios.cpus(),
            "python": platform.python_version(),
            "postgresql": server.query("postgres", "show server_version"),
            "measured": f"{dt.date.today()}",
            "load": round(os.getloadavg()[0], 1),
        }
        for name in options.only or (scenarios.QUICK if options.quick else scenarios.WITHIN_AN_HOUR):
            run: Callable[..., dict[str, Any]] = scenarios.ALL[name]
            for _ in range(options.rounds):
                measured = run(server, options.data or Path(folder), set(options.without))
                for key, values in measured.items():
                    known.setdefault(name, {}).setdefault(key, []).extend(values)
                RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    report.write(known)


if __name__ == "__main__":
    main()
