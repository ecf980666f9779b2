"""Which values PostgreSQL would not read, and why: by its own judgement (pg_input_error_info), asked once per text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from psycopg.types.json import Json

from loader.database.connect import Connection

KINDS = {
    "numeric": "a number",
    "int": "a whole number",
    "integer": "a whole number",
    "bigint": "a whole number",
    "smallint": "a whole number",
    "boolean": "true or false",
    "date": "a date like 2024-01-31",
}
ENDLESS = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)
ISO_DATE = r"\d{4}-\d{2}-\d{2}"
OUT_OF_RANGE = {"22003", "22008"}
REMEMBERED = 10_000
"""How many texts are remembered from one batch to the next, of those that are short."""
SHORT = 64

Value = tuple[str, str]
"""A data type, and a text that should be of it."""


class Verdicts:
    """What is wrong with values. The same ones come again and again, and remembering is cheaper than asking."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[Value, str | None] = {}

    def on(self, values: Iterable[Value]) -> dict[Value, str | None]:
        """Value -> why it is wrong, None where it is not; for all of these at least."""
        if len(self._known) > REMEMBERED:
            self._known.clear()
        unknown = set(values) - self._known.keys()
        answers: dict[Value, str | None] = dict.fromkeys(unknown)
        for kind in {kind for kind, _ in unknown}:
            texts = [text for its_kind, text in unknown if its_kind == kind]
            answers |= {(kind, text): _reason(text, kind, code) for text, code in self._wrong(kind, texts)}
        self._known |= {value: reason for value, reason in answers.items() if len(value[1]) <= SHORT}
        return answers | self._known

    def _wrong(self, kind: str, texts: list[str]) -> list[tuple[str, str | None]]:
        return self._connection.execute(
            "select text, info.sql_error_code"
            " from json_array_elements_text(%(texts)s) as value (text),"
            " lateral pg_input_error_info(text, %(kind)s) as info"
            " where info.message is not null"
            " or (%(kind)s::text = 'numeric' and text ~* 'nan|inf')"
            " or (%(kind)s::text = 'date' and text !~ %(iso)s)",
            {"texts": Json(texts), "kind": kind, "iso": f"^{ISO_DATE}$"},
        ).fetchall()


def _reason(text: str, kind: str, code: str | None) -> str:
    if ENDLESS.fullmatch(text):
        return "NaN and infinity are not values"
    if code in OUT_OF_RANGE and (kind != "date" or re.fullmatch(ISO_DATE, text)):
        return f"out of range for {kind}"
    return f"not {KINDS[kind]} ({kind})"
