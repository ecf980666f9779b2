"""The change report: what arrived in a month and what changed against the month before, as one HTML page.

docs/report.md explains every number on it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.filters import do_mark_safe

from loader.contract.tables import load_contract
from loader.database import open_database
from loader.errors import SurroundingsFailed
from loader.readers.month_states import waived, warned
from loader.readers.report_columns import ColumnReport, Json
from loader.readers.report_numbers import Report, read_index, read_month
from loader.settings import Settings
from loader.upkeep.parquet import appearing
from loader.words import counted, printable

EPOCH = dt.date(1970, 1, 1)
NONE = "\N{EN DASH}"
CATEGORIES_DRAWN = 6
"""The most bars for categories in a plot; the last bar adds up the rest."""


@dataclass(frozen=True)
class Finding:
    """One thing to look at: its level (alert or watch), its text, and its anchor on the page."""

    level: str
    text: str
    anchor: str


class Bar(NamedTuple):
    """One bin: what it holds, and its share of the older and of the newer month, between 0 and 1."""

    label: str
    before: float
    now: float


def write_month(settings: Settings, month: str, out: Path | None = None) -> tuple[Path, Report, list[Finding]]:
    """Write a month's page and update the index; returns the page's path, its numbers and its findings.

    Args:
        month: its number, like 001, or its date if two months have that number.
        out: a file to write instead; the index stays as it is.

    Raises:
        WrongUsage: the month is archived or not published, or all months before it are archived.
        SurroundingsFailed: the page cannot be written.
    """
    report = read_month(open_database(settings), month, load_contract())
    path = out or page_of(settings, report.month.month, report.month.as_of)
    found = findings(report)
    told = {"report": report, "findings": found, "headline": headline(report, found), "indexed": out is None}
    _write(path, "report.html.j2", in_place=out is not None, **told)
    if out is None:
        write_index(settings)
    return path, report, found


def write_index(settings: Settings, out: Path | None = None) -> tuple[Path, list[Json]]:
    """Write the index of all published months, with links to pages in its folder; returns its path and its entries."""
    path = out or settings.home / "reports" / "index.html"
    with open_database(settings).connect() as connection:
        months = read_index(connection, load_contract())
    there = {page.name for page in path.parent.glob("month_*.html")}
    pages = (_page(month["month"], month["as_of"]) for month in months)
    entries = [{**month, "page": page if page in there else None} for month, page in zip(months, pages, strict=True)]
    _write(path, "report_index.html.j2", in_place=out is not None, entries=entries)
    return path, entries


def page_of(settings: Settings, month: str, as_of: dt.date) -> Path:
    """The default path of a month's page."""
    return settings.home / "reports" / _page(month, as_of)


def _page(month: str, as_of: dt.date) -> str:
    """The file name of a month's page. It has the date, since two dates may be delivered as the same month."""
    return f"month_{month}_{as_of}.html"


def headline(report: Report, found: list[Finding]) -> tuple[str, str]:
    """The level of the page (calm, watch or alert), and its summary in one sentence."""
    passed, warned = len(report.audits_that("pass")), len(report.audits_that("warn"))
    change = f" ({share(report.users['change'], sign=True)})" if report.previous else ""
    customers = counted(report.users["customers_delivered"], "customer")
    audits = f"{counted(passed, 'audit')} passed" + (f" and {warned} warned" if warned else "")
    level, what = "calm", "Nothing to do"
    if alerts := sum(finding.level == "alert" for finding in found):
        level, what = "alert", f"Look at {counted(alerts, 'thing')} today"
    elif found:
        level, what = "watch", f"Nothing urgent, {counted(len(found), 'thing')} to watch"
    return level, f"{what}: month {report.month.month} is published, with {customers}{change}; {audits}."


def findings(report: Report) -> list[Finding]:
    """What a reader should look at: waivers and warnings of audits, then other alerts, then what to watch."""
    first = [Finding("alert", f"waived: {waived(waiver)}", "audits") for waiver in report.waivers]
    first += [Finding("alert", text, "audits") for text in warned(report.warnings)]
    found = [*_column_findings(report.columns), *_row_findings(report.customers)]
    departed, before = report.users["customers_departed"], report.users["delivered_before"]
    if before and departed / before >= 0.1:
        found.append(Finding("watch", f"{counted(departed, 'customer')} departed, {departed / before:.1%}", "rows"))
    return [*first, *sorted(found, key=lambda finding: finding.level != "alert")]


def _column_findings(columns: list[ColumnReport]) -> Iterator[Finding]:
    for column in sorted(columns, key=lambda column: -(column.psi or 0)):
        if column.level in {"alert", "watch"}:
            how = "has another distribution" if column.level == "alert" else "has begun to drift"
            yield Finding(column.level, f"{column.name} {how}: PSI {column.psi:.2f}", column.name)
        now, before = column.now["null_share"], (column.before or column.now)["null_share"]
        if round(abs(now - before), 9) >= 0.05:  # 0.3 - 0.25 is less
            shares = f"{now:.1%} of the rows, {before:.1%} before"
            yield Finding("watch", f"{column.name} has no value in {shares}", column.name)


def _row_findings(tables: list[Json]) -> Iterator[Finding]:
    """Tables that grew or shrank by at least a tenth; tables with the same counts share one finding."""
    counts: dict[tuple[int, float], list[str]] = {}
    for table in tables:
        if abs(table["change"] or 0) >= 0.1:
            counts.setdefault((table["customers_delivered"], table["change"]), []).append(table["table_name"])
    for (delivered, change), names in counts.items():
        who = "all tables" if len(names) == len(tables) > 1 else ", ".join(names)
        level = "alert" if abs(change) >= 0.2 else "watch"
        yield Finding(level, f"{who}: {counted(delivered, 'row')}, {change:+.1%} against the month before", "rows")


@cache
def environment() -> Environment:
    """The Jinja environment of the pages. It escapes every value, and characters that change the text direction."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda shown: printable(shown, keep="\n\t") if type(shown) is str else shown,
    )
    made.filters |= {"share": share, "value": value, "bars": bars, "names": names}
    made.globals["scrolls"] = do_mark_safe('<p class="scrolls">more to the right: scroll</p>')
    made.filters["stamp"] = lambda when: f"{when:%Y-%m-%d %H:%M} UTC"
    return made


def _write(path: Path, template: str, *, in_place: bool, **values: Any) -> None:
    """Write a page. One that may be served meanwhile is replaced when it is whole, so not `in_place`."""
    text = environment().get_template(template).render(values)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with nullcontext(path) if in_place else appearing(path) as page:
            page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SurroundingsFailed(f"the report cannot be written: {error.strerror}: {path}") from None


def names(text: str) -> str:
    """Escaped text in which a browser may break a name only after an underscore or its table's dot."""
    return do_mark_safe(re.sub(r"(_|\.(?=[a-z]))", r"\1<wbr>", escape(printable(text))))


def share(part: float | None, sign: bool = False) -> str:
    """A share as a percentage."""
    if part is None:
        return NONE
    return f"{part:+.1%}" if sign else f"{part:.1%}"


def value(number: float | None, data_type: str) -> str:
    """A number with as many digits as it needs; for a date column, the date that is so many days after 1970-01-01."""
    if number is None:
        return NONE
    if data_type == "date":
        return str(EPOCH + dt.timedelta(days=round(number)))
    if number == int(number):
        return f"{int(number):,}"
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:,.1f}" if abs(number) >= 100 else f"{number:.3g}"


def bars(column: ColumnReport) -> list[Bar]:
    """The bars of a column's distribution: numbers in ascending order, or common categories and the sum of the rest."""
    rows_before = sum(found["rows_before"] for found in column.bins) or 1
    rows_now = sum(found["rows_now"] for found in column.bins) or 1
    kind = column.now["data_type"]
    drawn = [Bar(label(b, kind), b["rows_before"] / rows_before, b["rows_now"] / rows_now) for b in column.bins]
    if kind in {"text", "boolean"} and len(drawn) > CATEGORIES_DRAWN:
        rest = drawn[CATEGORIES_DRAWN - 1 :]
        drawn[CATEGORIES_DRAWN - 1 :] = [
            Bar(f"{len(rest)} others", sum(bar.before for bar in rest), sum(bar.now for bar in rest))
        ]
    return drawn


def label(found: Json, data_type: str) -> str:
    """What a bin holds, in words."""
    if found["bin"] is None:
        return "no value"
    if data_type in {"text", "boolean"}:
        return "all others" if found["category"] is None else str(found["category"])
    above, until = found["lower_bound"], found["upper_bound"]
    words = [f"> {value(above, data_type)}"] if above is not None else []
    words += [f"≤ {value(until, data_type)}"] if until is not None else []
    return ", ".join(words) or "any value"
