"""Formats numbers with their nouns, lists of names, and text from outside, for people to read."""

import re
from collections.abc import Sequence
from decimal import Decimal

NOT_TEXT = re.compile("[\udc00-\udcff]")
"""Python's surrogates for bytes that are invalid in the encoding."""


def counted(count: int, one: str) -> str:
    """`1 row`, `7,043 rows`."""
    return f"{count:,} {one if count == 1 else f'{one}s'}"


def some_of(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def plain(value: object) -> str:
    """The value as text; a decimal number with all its digits, as PostgreSQL shows it, and never as 1E-7."""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def as_text(text: str) -> str:
    """Text with escapes for bytes that are invalid in the encoding, because the database rejects surrogates."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str, keep: str = "") -> str:
    """Text with escapes for characters that steer the terminal or change the text direction, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else repr(one)[1:-1] for one in as_text(text))
