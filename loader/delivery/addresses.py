"""Addresses of months that lie elsewhere, like s3://bucket/exports."""

from __future__ import annotations

import re
from pathlib import Path


def is_address(place: str | Path) -> bool:
    """Whether a folder of months lies elsewhere."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*://", str(place), re.IGNORECASE))


def shown(text: str) -> str:
    """A text with addresses as they may be written down: without user, password and what follows a question mark.

    A password may have blanks in it, so all up to the last @ goes.
    """
    return re.sub(r"(://)[^'\"\n]*@|\?[^\s'\"]*", r"\1", text)
