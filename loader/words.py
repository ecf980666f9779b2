"""How numbers and their nouns, and texts of others, are put for a person."""

import re

NOT_TEXT = re.compile("[\udc00-\udcff]")
"""Python's stand-ins for bytes that are not of the encoding."""


def counted(count: int, one: str) -> str:
    """`1 row`, `7,043 rows`."""
    return f"{count:,} {one if count == 1 else f'{one}s'}"


def as_text(text: str) -> str:
    """Text with escapes for bytes that are not of the encoding: the database takes no others."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str, keep: str = "") -> str:
    """Text without what would steer the terminal or turn the order of its letters: that is shown by its number."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else repr(one)[1:-1] for one in as_text(text))
