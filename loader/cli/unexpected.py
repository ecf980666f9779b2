"""What a bug looks like to a person: a sentence, and where the log with the traceback is."""

from __future__ import annotations

import datetime as dt
import traceback

from loader.errors import StreamflowError
from loader.settings import load_settings


def sentence(error: Exception) -> str:
    """Write the traceback to the log, and say so."""
    what = f"an unexpected error, a bug of streamflow: {type(error).__name__}: {error}".strip().splitlines()[0]
    try:
        path = load_settings().home / "logs" / "streamflow.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M:%S} UTC\n")
            traceback.print_exception(error, file=log)
    except (StreamflowError, OSError) as failure:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{what}, in {place.filename}:{place.lineno}. No log can be written: {failure}"
    return f"{what}. The log has all of it: {path}. Please report it with these lines."
