"""docs/benchmark.md and its chart, from what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.machine import REPOSITORY

DOCS = REPOSITORY / "docs"
NAMES = {
    "streamflow": "streamflow",
    "psql": "psql script",
    "dlt": "dlt (upsert only)",
    "prefect": "Prefect, pandas, GE",
}
TARGETS = {
    ("million", "first", "psql"): 0.45,
    ("million", "second", "psql"): 0.40,
    ("million", "second", "dlt"): 0.65,
    ("million", "second", "prefect"): 0.12,
    ("usage", "second", "psql"): 0.30,
    ("small", "second", "prefect"): 0.15,
}
"""(scenario, month, rival) -> streamflow's time may be at most so much of the rival's."""

TITLES = {
    "million": "1,000,000 customers",
    "usage": "1,000,000 customers, only usage changed",
    "small": "7,043 customers",
}


def write(known: dict[str, Any]) -> None:
    """Write the page, and draw the chart."""
    machine = known["machine"]
    parts = [
        "# Benchmark",
        "",
        "Written by `make bench` from [benchmark.json](benchmark.json), which has every measurement. Whole commands, by"
        f" the clock; medians. {machine['cpus']} cores, PostgreSQL {machine['postgresql']} with its default"
        f" configuration, Python {machine['python']}, measured up to {machine['measured']}."
        " [performance.md](performance.md) says what is compared, and where the time goes.",
        "",
        "![seconds for 1,000,000 customers](benchmark.svg)",
        "",
        *_races(known),
        *_alone(known),
        *_cluster(known),
    ]
    (DOCS / "benchmark.md").write_text("\n".join(parts) + "\n")
    _draw(known)


def _races(known: dict[str, Any]) -> list[str]:
    lines = []
    for scenario in [name for name in TITLES if name in known]:
        lines += [
            f"## {TITLES[scenario]}",
            "",
            "| month | system | runs | seconds | streamflow takes | at most | peak MB |",
        ]
        lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
        for month in ("first", "second"):
            ours = _seconds(known, scenario, f"streamflow {month}")
            for system, name in NAMES.items():
                runs = known[scenario].get(f"{system} {month}")
                if not runs or ours is None:
                    continue
                seconds = median(run[0] for run in runs)
                ratio = "" if system == "streamflow" else f"{ours / seconds:.2f} x"
                target = TARGETS.get((scenario, month, system))
                at_most = f"{target:.2f} x" if target else ""
                memory = median(run[1] for run in runs)
                lines.append(
                    f"| {month} | {name} | {len(runs)} | {seconds:.1f} | {ratio} | {at_most} | {memory:,.0f} |"
                )
        lines.append("")
    return lines


def _alone(known: dict[str, Any]) -> list[str]:
    lines = ["## streamflow alone", "", "| what | measured | at most |", "| --- | ---: | ---: |"]
    if (seconds := _seconds(known, "small", "streamflow second")) is not None:
        lines.append(f"| 7,043 customers, one month, whole command | {seconds:.1f} s | 3.5 s |")
        lines.append(f"| the identical month again | {_seconds(known, 'small', 'streamflow again'):.2f} s | 0.7 s |")
        twelve = _seconds(known, "small", "streamflow twelve months")
        lines.append(f"| 7,043 customers, twelve months in one command | {twelve:.1f} s | 12 s |")
    if "growth" in known:
        lines.append(f"| the same 200,000 customers, month 24 against month 2 | {_slower(known, 'growth')} | 1.15 x |")
        database, history = (
            median(column) for column in zip(*known["growth"]["bytes of database and of history"], strict=True)
        )
        lines.append(
            f"| disk after 12 months, against the history rows with their keys | {database / history:.2f} x | 1.3 x |"
        )
    if "turnover" in known:
        what = "the same with as many leaving as joining: a third more are known in month 24"
        lines.append(f"| {what} | {_slower(known, 'turnover')} | |")
    if "memory" in known:
        grown = median(known["memory"]["10000000"])
        lines.append(f"| loader's peak memory above its start, files of 10,000,000 rows | {grown:.0f} MB | 80 MB |")
    for scenario, whose in (("growth", "the same customers"), ("turnover", "customers who come and go")):
        if scenario in known:
            listed = ", ".join(f"{second:.1f}" for second in _by_month(known, scenario))
            lines += ["", f"Seconds of each of 24 months of {whose}: {listed}."]
    return lines


def _cluster(known: dict[str, Any]) -> list[str]:
    """What a cluster costs where it has no more processors than one server."""
    measured = known.get("cluster")
    if not measured:
        return []
    lines = [
        "",
        "## One server, and a coordinator with two workers on the same machine",
        "",
        "The same processors, and as much `shared_buffers` in one as in three. Seconds of the command's own clock, and"
        " what landing takes of them.",
        "",
        "| customers | month | runs | one server | landing | cluster | landing | cluster takes |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for key in (key for key in measured if key.startswith("cluster ")):
        _, users, month = key.split()
        one, spread = (
            [median(column) for column in zip(*measured[f"{name} {users} {month}"], strict=True)]
            for name in ("one server", "cluster")
        )
        word = "first" if month == "000" else "second"
        cells = [f"{int(users):,}", word, str(len(measured[key])), *(f"{second:.1f}" for second in (*one, *spread))]
        lines.append(f"| {' | '.join(cells)} | {spread[0] / one[0]:.1f} x |")
    return lines


def _by_month(known: dict[str, Any], scenario: str) -> list[float]:
    return [median(column) for column in zip(*known[scenario]["seconds by month"], strict=True)]


def _slower(known: dict[str, Any], scenario: str) -> str:
    months = _by_month(known, scenario)
    return f"{months[23] / months[1]:.2f} x"


def _seconds(known: dict[str, Any], scenario: str, key: str) -> float | None:
    runs = known.get(scenario, {}).get(key)
    return median(run[0] for run in runs) if runs else None


def _draw(known: dict[str, Any]) -> None:
    """A bar per system and month of the large scenarios."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "streamflow"
    from matplotlib import pyplot

    races = [(s, m) for s, m in (("million", "first"), ("million", "second"), ("usage", "second")) if s in known]
    if not races:
        return
    figure, axes = pyplot.subplots(1, len(races), figsize=(4.2 * len(races), 3.2), layout="constrained", squeeze=False)
    for axis, (scenario, month) in zip(axes[0], races, strict=True):
        found = {name: _seconds(known, scenario, f"{system} {month}") for system, name in NAMES.items()}
        bars = {name: seconds for name, seconds in reversed(found.items()) if seconds is not None}
        colours = ["#1b7f5c" if name == "streamflow" else "#b8bec6" for name in bars]
        drawn = axis.barh(list(bars), list(bars.values()), color=colours)
        axis.bar_label(drawn, fmt="%.0f s", padding=3)
        axis.set_title(f"{TITLES[scenario]}\n{month} month", fontsize=10)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(left=False, bottom=False, labelbottom=False)
        axis.set_xlim(0, max(bars.values()) * 1.2)
    figure.savefig(DOCS / "benchmark.svg", metadata={"Date": None})


def main() -> None:
    """Write the page anew from the measurements that are kept."""
    write(json.loads(Path(DOCS / "benchmark.json").read_text()))


if __name__ == "__main__":
    main()
