"""Small plots as inline SVG: the shares of the bins, before and now, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from markupsafe import Markup, escape

WIDTH = 200
ROWS = 6
"""How many categories a plot draws; the others are added up."""

_numbers = count(1)


@dataclass(frozen=True)
class Bar:
    """One bin: what it holds, and its share of the older and of the newer month, between 0 and 1."""

    label: str
    before: float
    now: float


def psi(before: Sequence[int], now: Sequence[int], floor: float = 0.0001) -> float | None:
    """The population stability index of two counts over the same bins; None where one month has no rows.

    PSI = sum over the bins of (now - before) * ln(now / before), each the bin's share of its month: the symmetrised
    Kullback-Leibler divergence, after S. Kullback and R. A. Leibler, On Information and Sufficiency, Annals of
    Mathematical Statistics 22 (1951), eq. 2.6; as an index with the thresholds 0.1 and 0.25 in N. Siddiqi, Credit Risk
    Scorecards (2006). An empty bin would make it infinite: it counts as a share of `floor`.
    """
    rows_before, rows_now = sum(before), sum(now)
    if not rows_before or not rows_now:
        return None
    shares = [(max(b / rows_before, floor), max(n / rows_now, floor)) for b, n in zip(before, now, strict=True)]
    return sum((n - b) * math.log(n / b) for b, n in shares)


def columns(bars: Sequence[Bar], name: str) -> Markup:
    """Upright pairs of bars, in the order of a number line."""
    height, foot = 56.0, 14.0
    top = max((max(bar.before, bar.now) for bar in bars), default=0) or 1
    step = WIDTH / max(len(bars), 5)
    parts = []
    for number, bar in enumerate(bars):
        left = number * step
        pairs = (("b", bar.before, left + step * 0.12), ("n", bar.now, left + step * 0.5))
        rects = "".join(
            f'<rect class="{kind}" x="{x:.1f}" y="{height - height * share / top:.1f}" width="{step * 0.36:.1f}"'
            f' height="{height * share / top:.1f}"/>'
            for kind, share, x in pairs
        )
        parts.append(f"<g><title>{_says(bar)}</title>{rects}</g>")
    ends = ""
    if bars:
        ends = f'<text x="0" y="{height + 11}">{escape(_short(bars[0].label, 16))}</text>'
    if len(bars) > 2:
        label = escape(_short(bars[-1].label, 16))
        ends += f'<text x="{step * len(bars):.1f}" y="{height + 11}" text-anchor="end">{label}</text>'
    line = f'<line x1="0" x2="{WIDTH}" y1="{height}" y2="{height}"/>'
    return _svg("".join(parts) + line + ends, height + foot, name, bars)


def rows(bars: Sequence[Bar], name: str) -> Markup:
    """Lying pairs of bars, each with its category's name."""
    drawn = list(bars[:ROWS])
    if len(bars) > ROWS:
        rest = bars[ROWS - 1 :]
        others = Bar(f"{len(rest)} others", sum(b.before for b in rest), sum(b.now for b in rest))
        drawn = [*bars[: ROWS - 1], others]
    left, step = 90.0, 17.0
    top = max((max(bar.before, bar.now) for bar in drawn), default=0) or 1
    parts = []
    for number, bar in enumerate(drawn):
        y = number * step
        rects = "".join(
            f'<rect class="{kind}" x="{left}" y="{at:.1f}" width="{(WIDTH - left) * share / top:.1f}" height="6"/>'
            for kind, share, at in (("b", bar.before, y + 1), ("n", bar.now, y + 8))
        )
        label = escape(_short(bar.label, 15))
        parts.append(f'<g><title>{_says(bar)}</title><text x="0" y="{y + 11:.1f}">{label}</text>{rects}</g>')
    return _svg("".join(parts), step * max(len(drawn), 1), name, bars)


def _svg(body: str, height: float, name: str, bars: Sequence[Bar]) -> Markup:
    number = next(_numbers)
    described = "; ".join(f"{bar.label}: {bar.before:.1%} before, {bar.now:.1%} now" for bar in bars[:12])
    return Markup(  # noqa: S704 (every value in it is escaped)
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" role="img"'
        f' aria-labelledby="t{number} d{number}"><title id="t{number}">{escape(name)}</title>'
        f'<desc id="d{number}">{escape(described)}</desc>{body}</svg>'
    )


def _says(bar: Bar) -> Markup:
    return escape(f"{bar.label}: {bar.before:.1%} before, {bar.now:.1%} now")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
