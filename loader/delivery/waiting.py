"""Wait for a month that is not there yet or is still being written."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from time import monotonic, sleep

from loader.contract.tables import Table
from loader.delivery.files import UNREADABLE
from loader.delivery.month import Delivery
from loader.delivery.remote import Listing, RemoteFolder
from loader.errors import NotDelivered, SurroundingsFailed, WrongUsage

PAUSE = 20.0
"""Seconds between two looks."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_patience(text: str | None) -> float:
    """The seconds of a time like 90s, 30m, 6h or 2d; WrongUsage for anything else."""
    if text is None:
        return 0
    if not (found := re.fullmatch(r"(\d{1,6})([smhd])", text.strip(), re.ASCII)):
        raise WrongUsage(f'"{text}" is not a duration: write it like 90s, 30m, 6h or 2d.')
    return int(found[1]) * UNITS[found[2]]


def wait_for(delivery: Delivery, tables: Sequence[Table], patience: float, tell: Callable[[str], None]) -> None:
    """Return when all tables have files and two looks in a row find the same, or after `patience` seconds.

    Raises:
        SurroundingsFailed: the first look failed, also when retried: the address or a password may be wrong.
    """
    if patience <= 0:
        return
    deadline, before = monotonic() + patience, _listing(delivery, tables)
    tell(f"waiting for month {delivery.label}")
    while (left := deadline - monotonic()) > 0:
        sleep(min(PAUSE, left))
        now: Listing = {}
        with suppress(SurroundingsFailed):  # a later look that fails does not end the wait
            now = _listing(delivery, tables)
        if now == before and _is_complete(now, tables):
            return
        before = now


def _listing(delivery: Delivery, tables: Sequence[Table]) -> Listing:
    with suppress(NotDelivered, *UNREADABLE):
        if delivery.address is not None:
            return RemoteFolder(delivery.address).month(delivery, tables)
        places = delivery.there
        paths = [path for place in places for path in ([place] if place.is_file() else sorted(place.iterdir()))]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}
    return {}


def _is_complete(listing: Listing, tables: Sequence[Table]) -> bool:
    """Whether each table has a file, or there is an archive, which is opened later."""
    names = [PurePosixPath(path).name for path in listing]
    return all(any(map(table.takes, names)) for table in tables) or any(name.endswith(".zip") for name in names)
