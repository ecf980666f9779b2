"""How numbers and their nouns, and texts of others, are put for a person."""

import re

NOT_TEXT = re.compile("[\udc00-\udcff]")
"""Python's stand-ins for bytes that are not of the encoding."""


def counted(count: int, one: str) -> str:
    """`1 row`, `7,043 rows`."""
    return f"{count:,} {one if count == 1 else f'{one}s'}"


def printable(text: str, keep: str = "") -> str:
    """Text without what would steer the terminal or turn the order of its letters: that is shown by its number."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _by_number(one) for one in text)


def _by_number(character: str) -> str:
    """An escape for a character, or for a byte that is not UTF-8."""
    return f"\\x{ord(character) - 0xDC00:02x}" if NOT_TEXT.match(character) else repr(character)[1:-1]
