"""The values of fields in Python, without a database: a looser reading than docs/data-contract.md (it takes 0x1F)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

WRONG = object()
"""The value of a text that may not be in its column."""

DIGITS = "[0-9]+(?:_[0-9]+)*"
DECIMAL = rf"[+-]?(?:{DIGITS}(?:\.(?:{DIGITS})?)?|\.{DIGITS})(?:[eE][+-]?{DIGITS})?"
OTHER_BASES = "[+-]?0(?:[xX](?:_?[0-9a-fA-F])+|[oO](?:_?[0-7])+|[bB](?:_?[01])+)"
BLANKS = " \t\n\v\f\r"


def judged(kind: str, text: str | None) -> Any:
    """The value of a field of type `kind`: None if the field is empty, WRONG if it has no value of that type."""
    if not text:
        return None
    if re.search("[\udc00-\udcff]", text):  # bytes that are not UTF-8, and NUL, as Python keeps them
        return WRONG
    return JUDGES[kind](text)


def _whole(text: str) -> int | None:
    if re.fullmatch(rf"[+-]?{DIGITS}", text):
        return int(text)
    return int(text, 0) if re.fullmatch(OTHER_BASES, text) else None


def _int(text: str) -> Any:
    number = _whole(text.strip(BLANKS))
    return number if number is not None and -(2**31) <= number < 2**31 else WRONG


def _numeric(text: str) -> Any:
    bare = text.strip(BLANKS)
    if (whole := _whole(bare)) is None and not re.fullmatch(DECIMAL, bare):
        return WRONG
    number = Decimal(bare if whole is None else whole)
    return number if abs(number) < Decimal("1e100") and int(number.as_tuple().exponent) >= -300 else WRONG


def _boolean(text: str) -> Any:
    said = text.strip(BLANKS).lower()
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    meant = {value for word, value in words.items() if said and word.startswith(said)}
    return meant.pop() if len(meant) == 1 else WRONG


def _date(text: str) -> Any:
    try:
        iso = re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
        return dt.date.fromisoformat(text).isoformat() if iso else WRONG
    except ValueError:
        return WRONG


JUDGES: dict[str, Callable[[str], Any]] = {
    "text": str,
    "int": _int,
    "numeric": _numeric,
    "boolean": _boolean,
    "date": _date,
}
