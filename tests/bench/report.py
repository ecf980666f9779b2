"""The figures in docs/performance.md and their chart, from what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.machine import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGE = DOCS / "performance.md"
NAMES = {
    "streamflow": "streamflow",
    "psql": "psql script",
    "dlt": "dlt",
    "prefect": "Prefect, pandas, GE",
}
RACES = (("small", "second"), ("usage", "second"), ("million", "first"), ("million", "second"))
BEGIN, END = "<!-- figures: make bench -->", "<!-- end of figures -->"

TITLES = {
    "million": "1,000,000 customers",
    "usage": "1,000,000, only usage changed",
    "small": "7,043 customers",
}


def write(known: dict[str, Any]) -> None:
    """Put the figures into the page, and draw the chart."""
    PAGE.write_text(page(known), encoding="utf-8")
    _draw(known)


def page(known: dict[str, Any]) -> str:
    """The page with these figures."""
    machine = known["machine"]
    figures = [
        f"Measured up to {machine['measured']} on {machine['cpus']} cores, PostgreSQL {machine['postgresql']} with its"
        " default",
        f"configuration, Python {machine['python']}; medians of whole commands, in seconds.",
        "",
        "![seconds for 1,000,000 customers](benchmark.svg)",
        "",
        *_races(known),
        *_alone(known),
        *_cluster(known),
    ]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{chr(10).join(figures)}\n\n{END}{rest.partition(END)[2]}"


def _races(known: dict[str, Any]) -> list[str]:
    lines = [f"| | {' | '.join(NAMES.values())} |", f"|---|{'---:|' * len(NAMES)}"]
    for scenario, month in RACES:
        if scenario in known:
            found = [_seconds(known, scenario, f"{system} {month}") for system in NAMES]
            cells = ["" if seconds is None else f"{seconds:.1f}" for seconds in found]
            lines.append(f"| {TITLES[scenario]}, {month} month | {' | '.join(cells)} |")
    if "million" in known:
        runs = [known["million"].get(f"{system} second", []) for system in NAMES]
        peaks = [f"{median(run[1] for run in measured):,.0f}" if measured else "" for measured in runs]
        lines.append(f"| 1,000,000 customers, second month: peak MB | {' | '.join(peaks)} |")
    return [*lines, ""]


def _alone(known: dict[str, Any]) -> list[str]:
    lines = ["| streamflow alone | |", "|---|---:|"]
    if (again := _seconds(known, "small", "streamflow again")) is not None:
        lines.append(f"| 7,043 customers, the same month again | {again:.2f} s |")
        twelve = _seconds(known, "small", "streamflow twelve months")
        lines.append(f"| 7,043 customers, twelve months in one command | {twelve:.1f} s |")
    if "growth" in known:
        lines.append(f"| 200,000 customers, month 24 against month 2 | {_slower(known, 'growth')} |")
    if "turnover" in known:
        lines.append(f"| the same, with as many leaving as joining | {_slower(known, 'turnover')} |")
    if "growth" in known:
        database, history = (
            median(column) for column in zip(*known["growth"]["bytes of database and of history"], strict=True)
        )
        lines.append(f"| disk after 12 months, against history with its keys | {database / history:.2f} x |")
    if "memory" in known:
        grown = median(known["memory"]["10000000"])
        lines.append(f"| memory above the start, files of 10,000,000 rows | {grown:.0f} MB |")
    return lines


def _cluster(known: dict[str, Any]) -> list[str]:
    """What a cluster costs where it has no more processors than one server."""
    measured = known.get("cluster")
    if not measured:
        return []
    lines = [
        "",
        "One server, and a coordinator with two workers on the same machine, in seconds:",
        "",
        "| | one server | cluster | cluster, landing |",
        "|---|---:|---:|---:|",
    ]
    for key in (key for key in measured if key.startswith("cluster ") and key.endswith(" 001")):
        _, users, month = key.split()
        one, spread = (
            [median(column) for column in zip(*measured[f"{name} {users} {month}"], strict=True)]
            for name in ("one server", "cluster")
        )
        lines.append(f"| {int(users):,}, second month | {one[0]:.1f} | {spread[0]:.1f} | {spread[1]:.1f} |")
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
    """Write the figures anew from the measurements that are kept."""
    write(json.loads(Path(DOCS / "benchmark.json").read_text()))


if __name__ == "__main__":
    main()
