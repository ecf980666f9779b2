"""What settings ask for after a publish: an as-of schema, the change report, and the archiving of old months."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence

from loader.contract.tables import load_contract
from loader.database import open_database
from loader.pipeline.outcome import Outcome
from loader.pipeline.progress import log
from loader.readers.freeze import freeze
from loader.readers.published import PublishedMonth, published_months
from loader.readers.report import page_of, write_month
from loader.settings import Settings
from loader.upkeep import archive


def after_publish(settings: Settings, outcome: Outcome) -> None:
    """Run these steps after an ingest, also to catch up on an interrupted one. Errors are logged: the month stays."""
    if outcome.command != "ingest":
        return
    is_due = outcome.state == "published"
    with _logged(outcome):
        is_due = is_due or _was_cut_off(settings, outcome.as_of)
    # archive last: the report compares with a month that archiving may remove
    for step in (_schema, _reports, _archived) if is_due else ():
        with _logged(outcome):
            for line in step(settings, outcome.as_of):
                log.info(line)


@contextlib.contextmanager
def _logged(outcome: Outcome) -> Iterator[None]:
    """Log an exception instead of raising it."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        message = f"month {outcome.month} is published, but a schema, archive or report made after it failed: {reason}"
        log.error(message, extra={"fields": {"event": "error"}})


def _schema(settings: Settings, as_of: dt.date) -> Iterator[str]:
    if settings.freeze:
        with open_database(settings).connect() as connection:
            if any(month.as_of == as_of and not month.archived_in for month in published_months(connection)):
                yield f"schema: {freeze(connection, load_contract(), as_of)}"


def _archived(settings: Settings, _as_of: dt.date) -> Iterator[str]:
    if settings.keep_months:
        for done in archive.keep_newest(settings, settings.keep_months):
            yield f"archived: {done.as_of} in {done.folder}"


def _was_cut_off(settings: Settings, as_of: dt.date) -> bool:
    """Whether a published month lacks its page. Without reports, only archiving catches up, after the next month."""
    if not settings.report or any((settings.home / "reports").glob(f"month_*_{as_of}.html")):
        return False
    with open_database(settings).connect() as connection:
        return as_of in {month.as_of for month in _reportable(published_months(connection))}


def _reportable(months: Sequence[PublishedMonth]) -> list[PublishedMonth]:
    """The months that a page can be written of: they are not archived, nor is all before them."""
    first = min((month.as_of for month in months), default=None)
    return [month for month in months if not month.archived_in and (month.previous_as_of or month.as_of == first)]


def _reports(settings: Settings, as_of: dt.date) -> Iterator[str]:
    """Rewrite existing pages of later months, as they compare with this one; its own comes last and marks success."""
    if not settings.report:
        return
    with open_database(settings).connect() as connection:
        months = [month for month in _reportable(published_months(connection)) if month.as_of >= as_of]
    pages = {month.as_of: page_of(settings, month.month, month.as_of) for month in months}
    if as_of in pages:
        pages[as_of].unlink(missing_ok=True)
    for date, page in reversed(pages.items()):
        if date == as_of or page.is_file():
            path, *_ = write_month(settings, str(date))
            yield f"report: {path}"
