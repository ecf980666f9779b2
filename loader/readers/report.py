"""The change report: what arrived in a month and what changed against the month before, as one HTML page.

Every number comes from the views of dbt_project/models/marts/report and from the ledger; docs/report.md explains each.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from psycopg.rows import class_row

from loader.contract.tables import Table, load_contract
from loader.database.connect import Connection, Database, open_database
from loader.errors import SurroundingsFailed
from loader.pipeline import ledger
from loader.pipeline.dbt import Dbt
from loader.readers import marts, plots
from loader.readers.published import PublishedMonth, find, published_months
from loader.settings import Settings

WATCH, ALERT = 0.1, 0.25
"""PSI from which a distribution is said to have moved, and to have moved a lot."""
MONTHS_IN_GRID = 12
AGES_SHOWN = 6
EPOCH = dt.date(1970, 1, 1)
NONE = "\N{EN DASH}"
T = TypeVar("T")


@dataclass(frozen=True)
class Load:
    """The attempt that published a month."""

    started_by: str
    started_at: dt.datetime
    finished_at: dt.datetime
    data_dir: str
    reason: str | None
    files: list[dict[str, Any]]
    timings: dict[str, float]
    versions: dict[str, str]


@dataclass(frozen=True)
class Customers:
    """Who came, went and came back, in one table."""

    table_name: str
    customers_known: int
    customers_delivered: int
    customers_new: int
    customers_departed: int
    customers_returned: int


@dataclass(frozen=True)
class Rows:
    """Rows of one table: delivered now and the month before, and what production made of them."""

    table_name: str
    rows_delivered: int
    rows_before: int | None
    rows_total: int
    rows_inserted: int | None
    rows_updated: int | None

    @property
    def change(self) -> float | None:
        """Rows more or less than the month before, as a share of those."""
        return (self.rows_delivered - self.rows_before) / self.rows_before if self.rows_before else None


@dataclass(frozen=True)
class Profile:
    """What one month delivered in one column."""

    table_name: str
    column_name: str
    data_type: str
    delivered_rows: int
    null_rows: int
    mean: float | None
    quantiles: list[float | None] | None

    @property
    def null_share(self) -> float:
        """Rows without a value, as a share of those delivered."""
        return self.null_rows / self.delivered_rows if self.delivered_rows else 0.0


@dataclass(frozen=True)
class Changes:
    """For how many customers one column changed."""

    table_name: str
    column_name: str
    compared_rows: int
    changed_rows: int


@dataclass(frozen=True)
class Bin:
    """One bin of a distribution, counted in both months."""

    table_name: str
    column_name: str
    bin: int | None
    lower_bound: float | None
    upper_bound: float | None
    category: str | None
    rows_before: int
    rows_now: int


@dataclass(frozen=True)
class ColumnReport:
    """All that is said of one column."""

    now: Profile
    before: Profile | None
    changes: Changes | None
    bins: list[Bin]
    psi: float | None

    @property
    def name(self) -> str:
        """table.column."""
        return f"{self.now.table_name}.{self.now.column_name}"

    @property
    def level(self) -> str:
        """How far the distribution has moved: alert, watch, calm; none where nothing can be compared."""
        if self.psi is None:
            return "none"
        return "alert" if self.psi >= ALERT else "watch" if self.psi >= WATCH else "calm"


@dataclass(frozen=True)
class Age:
    """How many customers' newest row came with which delivery."""

    table_name: str
    observed_as_of: dt.date
    customers: int


@dataclass(frozen=True)
class AuditRow:
    """One audit over the months: a verdict per month, None where it did not run."""

    audit_name: str
    table_name: str
    severity: str
    verdicts: list[tuple[str, int] | None]


@dataclass(frozen=True)
class Finding:
    """One thing to look at: how bad, what, and where on the page it is."""

    level: str
    text: str
    anchor: str


@dataclass
class Report:
    """The numbers of one month's page."""

    month: PublishedMonth
    previous: PublishedMonth | None
    root: str
    load: Load
    customers: list[Customers]
    rows: list[Rows]
    columns: list[ColumnReport]
    ages: list[Age]
    audit_months: list[str]
    audits: list[AuditRow]
    findings: list[Finding] = field(default_factory=list)

    def columns_of(self, table_name: str) -> list[ColumnReport]:
        """The columns of one table, in the order of declaration."""
        return [column for column in self.columns if column.now.table_name == table_name]

    @property
    def users(self) -> Customers:
        """The customers, as the table counts them that the others reference."""
        return next(row for row in self.customers if row.table_name == self.root)

    @property
    def rows_change(self) -> float | None:
        """How far the number of customers delivered has changed."""
        return next((rows.change for rows in self.rows if rows.table_name == self.root), None)

    @property
    def deliveries(self) -> list[dt.date]:
        """The newest deliveries that brought somebody's newest row, newest first."""
        return sorted({age.observed_as_of for age in self.ages}, reverse=True)[:AGES_SHOWN]

    def shown_ages(self, table_name: str) -> list[int]:
        """Customers of a table whose newest row came with each of `deliveries`, and with any older one."""
        ages = {age.observed_as_of: age.customers for age in self.ages if age.table_name == table_name}
        shown = [ages.get(date, 0) for date in self.deliveries]
        return [*shown, sum(ages.values()) - sum(shown)]

    def audits_that(self, status: str) -> list[AuditRow]:
        """The audits with that verdict on this month."""
        return [row for row in self.audits if (verdict := row.verdicts[-1]) is not None and verdict[0] == status]


@dataclass(frozen=True)
class IndexEntry:
    """One month in the index."""

    month: PublishedMonth
    customers: Customers
    audits_passed: int
    audits_warned: int
    page: str | None


def write_month(
    settings: Settings, month: str, out: Path | None = None, *, indexed: bool = False
) -> tuple[Path, Report]:
    """Write a month's page; returns where it is, and its numbers.

    Args:
        month: as 001, or as its date where two have the same number.
        indexed: the index is about to be written, too.

    Raises:
        WrongUsage: the month is not published.
        SurroundingsFailed: the page cannot be written.
    """
    tables = load_contract()
    report = read_month(settings, month, tables)
    path = out or settings.home / "reports" / _page(report.month)
    indexed = indexed or (path.parent / "index.html").is_file()
    return _write(path, "month", report=report, tables=tables, indexed=indexed), report


def _page(month: PublishedMonth) -> str:
    """The name of a month's page; with the date, since two dates may have been delivered as the same month."""
    return f"month_{month.month}_{month.as_of}.html"


def write_index(settings: Settings, out: Path | None = None) -> tuple[Path, list[IndexEntry]]:
    """Write the list of all published months; returns where it is, and what it lists."""
    path = out or settings.home / "reports" / "index.html"
    entries = read_index(settings, path.parent, load_contract())
    return _write(path, "index", entries=entries), entries


def read_month(settings: Settings, text: str, tables: Sequence[Table]) -> Report:
    """The numbers of a published month.

    Raises:
        WrongUsage: the month is not published.
    """
    database = open_database(settings)
    with database.connect() as connection:
        month = find(connection, text)
        _ensure_views(settings, database, connection)
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            connection.execute("set local jit = off")
            report = _read(connection, month, tables)
    report.findings = findings(report)
    return report


def read_index(settings: Settings, folder: Path, tables: Sequence[Table]) -> list[IndexEntry]:
    """The key numbers of all published months, newest first; a page is linked where it is in `folder`."""
    root = _root(tables)
    database = open_database(settings)
    with database.connect() as connection:
        months = published_months(connection)
        if not months:
            return []
        _ensure_views(settings, database, connection)
        entries = []
        for month in months:
            users = next(row for row in _customers(connection, month, tables) if row.table_name == root)
            verdicts = [audit.status for audit in ledger.audits_of(connection, month.load_id)]
            page = _page(month)
            there = page if (folder / page).is_file() else None
            entries.append(IndexEntry(month, users, verdicts.count("pass"), verdicts.count("warn"), there))
    return entries[::-1]


def findings(report: Report) -> list[Finding]:
    """What a reader should look at, the worst first."""
    found: list[Finding] = []
    for column in sorted(report.columns, key=lambda column: -(column.psi or 0)):
        if column.level in {"alert", "watch"}:
            how = "has another distribution" if column.level == "alert" else "has begun to drift"
            found.append(Finding(column.level, f"{column.name} {how}: PSI {column.psi:.2f}", column.name))
        if column.before is not None and abs(column.now.null_share - column.before.null_share) >= 0.05:
            shares = f"{column.now.null_share:.1%} of the rows, {column.before.null_share:.1%} before"
            found.append(Finding("watch", f"{column.name} has no value in {shares}", column.name))
    found += _row_findings(report.rows)
    before = next((rows.rows_before for rows in report.rows if rows.table_name == report.root), None)
    departed = report.users.customers_departed
    if before and departed / before >= 0.1:
        found.append(Finding("watch", f"{departed:,} customers departed, {departed / before:.1%}", "rows"))
    for audit in report.audits_that("warn"):
        verdict = audit.verdicts[-1]
        found.append(Finding("watch", f"{audit.audit_name} warned: {verdict[1] if verdict else 0:,}", "audits"))
    return sorted(found, key=lambda finding: finding.level != "alert")


def _row_findings(tables: Sequence[Rows]) -> Iterator[Finding]:
    """Tables that grew or shrank by a tenth; those with the same counts in one finding."""
    counts: dict[tuple[int, float], list[str]] = {}
    for rows in tables:
        if rows.change is not None and abs(rows.change) >= 0.1:
            counts.setdefault((rows.rows_delivered, rows.change), []).append(rows.table_name)
    for (delivered, change), names in counts.items():
        who = f"{names[0]} has" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} have"
        if len(names) == len(tables) > 1:
            who = "all tables have"
        level = "alert" if abs(change) >= 0.2 else "watch"
        yield Finding(level, f"{who} {delivered:,} rows, {change:+.1%} against the month before", "rows")


def _read(connection: Connection, month: PublishedMonth, tables: Sequence[Table]) -> Report:
    months = published_months(connection)
    shown = [other for other in months if other.as_of <= month.as_of][-MONTHS_IN_GRID:]
    columns = _columns(connection, month, tables)
    order = {table.name: number for number, table in enumerate(tables)}
    return Report(
        month,
        next((other for other in months if other.as_of == month.previous_as_of), None),
        _root(tables),
        _rows(connection, Load, LOAD, [month.load_id])[0],
        _customers(connection, month, tables),
        sorted(
            _rows(connection, Rows, ROWS, [month.previous_as_of, month.as_of]), key=lambda r: order.get(r.table_name, 0)
        ),
        columns,
        _rows(connection, Age, AGES, [month.as_of]),
        [other.month for other in shown],
        _audit_grid(connection, shown),
    )


LOAD = (
    "select started_by, started_at, finished_at, data_dir, reason, files, timings, versions from ops.loads"
    " where load_id = %s"
)
ROWS = (
    "select now.table_name, now.rows_delivered, before.rows_delivered as rows_before, now.rows_total,"
    " now.rows_inserted, now.rows_updated from ops.history as now left join ops.history as before"
    " on before.table_name = now.table_name and before.as_of = %s where now.as_of = %s"
)
AGES = (
    "select table_name, observed_as_of, customers from public.report_freshness where as_of = %s"
    " order by table_name, observed_as_of desc"
)
PROFILES = (
    "select table_name, column_name, data_type, delivered_rows, null_rows, mean, quantiles"
    " from public.report_column_profile where as_of = %s"
)
CHANGES = (
    "select table_name, column_name, compared_rows, changed_rows from public.report_column_changes"
    " where as_of = %s and previous_as_of = %s"
)
BINS = (
    "select table_name, column_name, bin, lower_bound, upper_bound, category, rows_before, rows_now"
    " from public.report_distribution where as_of = %s and previous_as_of = %s order by table_name, column_name, bin"
)


def _rows(connection: Connection, kind: type[T], query: str, values: Sequence[object] = ()) -> list[T]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query, values).fetchall()


def _customers(connection: Connection, month: PublishedMonth, tables: Sequence[Table]) -> list[Customers]:
    """Per table, in the order of declaration; a table of which nothing is known counts nobody."""
    query = (
        "select table_name, customers_known, customers_delivered, customers_new, customers_departed, customers_returned"
        " from public.report_users where as_of = %s and "
    )
    if month.previous_as_of is None:
        found = _rows(connection, Customers, query + "previous_as_of is null", [month.as_of])
    else:
        found = _rows(connection, Customers, query + "previous_as_of = %s", [month.as_of, month.previous_as_of])
    counted = {row.table_name: row for row in found}
    return [counted.get(table.name, Customers(table.name, 0, 0, 0, 0, 0)) for table in tables]


def _columns(connection: Connection, month: PublishedMonth, tables: Sequence[Table]) -> list[ColumnReport]:
    pair = [month.as_of, month.previous_as_of]
    now = {(p.table_name, p.column_name): p for p in _rows(connection, Profile, PROFILES, [month.as_of])}
    before, changes = {}, {}
    bins: dict[tuple[str, str], list[Bin]] = {}
    if month.previous_as_of is not None:
        before = {(p.table_name, p.column_name): p for p in _rows(connection, Profile, PROFILES, pair[1:])}
        changes = {(c.table_name, c.column_name): c for c in _rows(connection, Changes, CHANGES, pair)}
        for found in _rows(connection, Bin, BINS, pair):
            bins.setdefault((found.table_name, found.column_name), []).append(found)
    names = [(table.name, column.name) for table in tables for column in table.columns]
    return [_column(now[n], before.get(n), changes.get(n), bins.get(n, [])) for n in names if n in now]


def _column(now: Profile, before: Profile | None, changes: Changes | None, bins: list[Bin]) -> ColumnReport:
    psi = plots.psi([b.rows_before for b in bins], [b.rows_now for b in bins])
    return ColumnReport(now, before, changes, bins, psi)


def _audit_grid(connection: Connection, months: Sequence[PublishedMonth]) -> list[AuditRow]:
    """One row an audit, one verdict a month; those that do not pass first."""
    found: dict[str, AuditRow] = {}
    for number, month in enumerate(months):
        for audit in ledger.audits_of(connection, month.load_id):
            empty = AuditRow(audit.audit_name, audit.table_name, audit.severity, [None] * len(months))
            found.setdefault(audit.audit_id, empty).verdicts[number] = (audit.status, audit.failures)
    return sorted(found.values(), key=lambda row: (_passes(row.verdicts), row.table_name, row.audit_name))


def _passes(verdicts: Sequence[tuple[str, int] | None]) -> bool:
    return all(verdict is None or verdict[0] == "pass" for verdict in verdicts)


def _ensure_views(settings: Settings, database: Database, connection: Connection) -> None:
    """Have dbt make the views where the database lacks one; the next ingest makes those that the project changed."""
    if not marts.missing(connection):
        return
    select = ["run", "--select", "path:models/marts"]
    result = Dbt(settings).run(database, select, lambda _: None, lambda _: None)
    if not result.success:
        raise SurroundingsFailed("\n  ".join(["dbt could not make the views of the report", *result.errors]))


def _cells(table: Table) -> list[str]:
    return [table.name, *(name for name in table.column_names if name != table.primary_key)]


def _root(tables: Sequence[Table]) -> str:
    """The table that the others reference: one row there is one customer."""
    return next((table.name for table in tables if table.references is None), tables[0].name)


def _write(path: Path, page: str, **values: Any) -> Path:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"share": share, "number": number, "value": value_of, "plot": plot, "stamp": stamp}
    text = environment.get_template("report.html.j2").render(page=page, **values)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SurroundingsFailed(f"the report cannot be written: {error.strerror}: {path}") from None
    return path


def share(value: float | None, sign: bool = False) -> str:
    """A share as a percentage."""
    if value is None:
        return NONE
    return f"{value:+.1%}" if sign else f"{value:.1%}"


def number(value: float | None) -> str:
    """A number with as many digits as it needs."""
    if value is None or not math.isfinite(value):
        return NONE if value is None else str(value)
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def value_of(value: float | None, data_type: str) -> str:
    """A number as the column's type has it: a date counts days since 1970."""
    if data_type != "date" or value is None or not math.isfinite(value):
        return number(value)
    try:
        return str(EPOCH + dt.timedelta(days=round(value)))
    except OverflowError:
        return number(value)


def stamp(value: dt.datetime) -> str:
    """A moment, to the minute."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def plot(column: ColumnReport) -> Markup:
    """The column's distribution, before and now."""
    rows_before = sum(found.rows_before for found in column.bins) or 1
    rows_now = sum(found.rows_now for found in column.bins) or 1
    kind = column.now.data_type
    bars = [plots.Bar(label(b, kind), b.rows_before / rows_before, b.rows_now / rows_now) for b in column.bins]
    draw = plots.rows if kind in {"text", "boolean"} else plots.columns
    return draw(bars, f"Distribution of {column.name}, before and now")


def label(found: Bin, data_type: str) -> str:
    """What a bin holds, in words."""
    if found.bin is None:
        return "no value"
    if data_type in {"text", "boolean"}:
        return found.category if found.category is not None else "all others"
    lower, upper = value_of(found.lower_bound, data_type), value_of(found.upper_bound, data_type)
    if found.lower_bound is None:
        return "any value" if found.upper_bound is None else f"≤ {upper}"
    return f"> {lower}" if found.upper_bound is None else f"> {lower}, ≤ {upper}"
