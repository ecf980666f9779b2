"""Writes the figures and the chart of docs/performance.md from the measurements."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import floors
from tests.bench.machine import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGE = DOCS / "performance.md"
NAMES = {
    "streamflow": "streamflow",
    "psql": "psql script",
    "dlt": "dlt",
    "prefect": "Prefect, pandas, GE",
}
RACES = (
    ("small", "second"),
    ("medium", "second"),
    ("million", "first"),
    ("million", "second"),
    ("usage", "second"),
    ("huge", "first"),
    ("huge", "second"),
)
BEGIN, END = "<!-- figures: make bench -->", "<!-- end of figures -->"

TITLES = {
    "million": "1,000,000",
    "medium": "200,000",
    "usage": "1,000,000, only usage changed",
    "small": "7,043",
    "huge": "10,000,000",
}


def write(known: dict[str, Any]) -> None:
    """Write the figures into the page, and draw the chart."""
    PAGE.write_text(page(known), encoding="utf-8")
    _draw(known)


def page(known: dict[str, Any]) -> str:
    """The page with these figures."""
    machine = known["machine"]
    figures = [
        f"Measured up to {machine['measured']} on {machine['cpus']} cores, PostgreSQL {machine['postgresql']} with its"
        f" default configuration, Python {machine['python']}, load average {machine['load']}.",
        "Seconds of whole commands, median and range; CPU of command and server.",
        "",
        "![seconds of the second month against customers](benchmark.svg)",
        "",
        *_races(known),
        *_steps(known),
        *_alone(known),
        *_cluster(known),
    ]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{chr(10).join(figures)}\n\n{END}{rest.partition(END)[2]}"


def _races(known: dict[str, Any]) -> list[str]:
    names = {
        name: title for name, title in NAMES.items() if any(f"{name} second" in known.get(one, {}) for one, _ in RACES)
    }
    lines = [f"| customers | {' | '.join(names.values())} |", f"|---|{'---:|' * len(names)}"]
    for scenario, month in RACES:
        if scenario in known:
            cells = [_spread(known, scenario, f"{system} {month}") for system in names]
            lines.append(f"| {TITLES[scenario]}, {month} month | {' | '.join(cells)} |")
    for scenario, month in RACES:
        if scenario in {"small", "million"} & known.keys() and month == "second":
            runs = [known[scenario].get(f"{system} second", []) for system in names]
            cpu = [f"{median(run[2] for run in measured):.1f}" if measured else "" for measured in runs]
            lines.append(f"| {TITLES[scenario]}, second month: CPU | {' | '.join(cpu)} |")
    for scenario in ("million", "huge"):
        if scenario in known:
            runs = [known[scenario].get(f"{system} second", []) for system in names]
            peaks = [f"{median(run[1] for run in measured):,.0f}" if measured else "" for measured in runs]
            lines.append(f"| {TITLES[scenario]}, second month: peak MB | {' | '.join(peaks)} |")
    return [*lines, ""]


def _steps(known: dict[str, Any]) -> list[str]:
    """The steps of a month beside their floors."""
    if "steps" not in known:
        return []
    lines = ["Steps of the second month of 1,000,000 customers, in seconds, each with its floor:", ""]
    for step, what in floors.STEPS.items():
        taken, least = (median(column) for column in zip(*known["steps"][step], strict=True))
        lines.append(f"- {step}: {taken:.1f}; {what}: {least:.1f}")
    return [*lines, ""]


def _alone(known: dict[str, Any]) -> list[str]:
    lines = ["streamflow alone:", ""]
    if (again := _seconds(known, "small", "streamflow again")) is not None:
        lines.append(f"- 7,043 customers, the same month again: {again:.2f} s")
        twelve = _seconds(known, "small", "streamflow twelve months")
        lines.append(f"- 7,043 customers, twelve months in one command: {twelve:.1f} s")
        alone = _seconds(known, "small", "streamflow dbt parse")
        lines.append(f"- `streamflow dbt parse`: importing dbt, reading the project: {alone:.1f} s")
    if (seconds := _seconds(known, "million", "streamflow report")) is not None:
        lines.append(f"- 1,000,000 customers, change report: {seconds:.1f} s")
    if "growth" in known:
        lines.append(f"- 200,000 customers, month 24 against month 2: {_slower(known, 'growth')}")
    if "turnover" in known:
        lines.append(f"- the same, with as many leaving as joining: {_slower(known, 'turnover')}")
    if "growth" in known:
        database, history = (
            median(column) for column in zip(*known["growth"]["bytes of database and of history"], strict=True)
        )
        lines.append(f"- disk after 12 months, against history with its keys: {database / history:.2f} x")
    if "memory" in known:
        grown = median(known["memory"]["10000000"])
        lines.append(f"- memory that files of 10,000,000 rows add: {grown:.0f} MB")
    return lines


def _cluster(known: dict[str, Any]) -> list[str]:
    """How many times as long a month takes on a cluster as on one server with the same processors and memory."""
    measured = known.get("cluster")
    if not measured:
        return []
    spread, one = (median(run[0] for run in measured[f"{name} 1000000 001"]) for name in ("cluster", "one server"))
    return [f"- 1,000,000 customers, Citus on this machine against one server: {spread / one:.2f} x"]


def _by_month(known: dict[str, Any], scenario: str) -> list[float]:
    return [median(column) for column in zip(*known[scenario]["seconds by month"], strict=True)]


def _slower(known: dict[str, Any], scenario: str) -> str:
    months = _by_month(known, scenario)
    return f"{months[23] / months[1]:.2f} x"


def _seconds(known: dict[str, Any], scenario: str, key: str) -> float | None:
    runs = known.get(scenario, {}).get(key)
    return median(run[0] for run in runs) if runs else None


def _spread(known: dict[str, Any], scenario: str, key: str) -> str:
    seconds = sorted(run[0] for run in known[scenario].get(key, []))
    if not seconds:
        return ""
    return f"{median(seconds):.1f}" + (f" ({seconds[0]:.1f}\N{EN DASH}{seconds[-1]:.1f})" if len(seconds) > 1 else "")


def _draw(known: dict[str, Any]) -> None:
    """Seconds of the second month against customers, a line per system; both axes are logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "streamflow"
    from matplotlib import pyplot

    sizes = {"small": 7_043, "medium": 200_000, "million": 1_000_000, "huge": 10_000_000}
    figure, axis = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for system, name in NAMES.items():
        found = {sizes[scenario]: _seconds(known, scenario, f"{system} second") for scenario in sizes}
        points = {customers: seconds for customers, seconds in found.items() if seconds is not None}
        if points:
            ours = system == "streamflow"
            axis.plot(*zip(*points.items(), strict=True), "o-", lw=2.5 if ours else 1.2, label=name, zorder=2 + ours)
    axis.set(xscale="log", yscale="log", xlabel="customers", ylabel="seconds")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(DOCS / "benchmark.svg", metadata={"Date": None})


def main() -> None:
    """Write the figures again from docs/benchmark.json."""
    write(json.loads(Path(DOCS / "benchmark.json").read_text()))


if __name__ == "__main__":
    main()
