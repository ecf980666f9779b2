"""What a bug looks like to a person: a sentence, and where the log with the traceback is."""

from __future__ import annotations

import datetime as dt
import traceback
from pathlib import Path

from loader.errors import StreamflowError
from loader.settings import load_settings


def sentence(error: Exception) -> str:
    """Write the traceback to the log, and say so."""
    what = f"an unexpected error, a bug of streamflow: {type(error).__name__}: {error}".strip().splitlines()[0]
    try:
        home = load_settings().home
    except StreamflowError:
        home = Path.cwd() / ".streamflow"
    path = home / "logs" / "streamflow.log"
    lines = traceback.format_exception(error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.writelines([f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M:%S} UTC\n", *lines])
    except OSError as failure:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{what}, in {place.filename}:{place.lineno}. {path} cannot be written: {failure.strerror}."
    return f"{what}. The log has all of it: {path}. Please report it with these lines."
