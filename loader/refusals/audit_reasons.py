"""What a failed audit says of a row or of a table, in words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loader.refusals.audits import UNIQUE, Audit
from loader.refusals.causes import SHOWN

Arguments = Mapping[str, Any]

OTHER_CUSTOMERS = "Are these files of another data folder (--data-dir), or is this the database of other data?"


def of_row(audit: Audit, column: str, customer: Sequence[str]) -> str:
    """Why a row is wrong: what whoever declared the audit says of it, or else what its test is known to ask.

    Args:
        column: the one whose value is shown.
        customer: the columns that say whose row it is.
    """
    if audit.description:
        return audit.description
    with contextlib.suppress(KeyError):  # somebody's own test may have the name and other arguments
        if audit.test == "relationships":
            known = (re.findall(r"\w+", str(audit.arguments["to"])) or [""])[-1]
            return f"no such {'customer' if [column] == list(customer) else 'value'} in {known}.csv"
        if audit.test in PHRASES:
            return PHRASES[audit.test](audit.arguments)
    return _fails(audit)


def of_double(audit: Audit, columns: Sequence[str], customer: Sequence[str], number: int, first: str) -> str:
    """Why a row is wrong that is right when it is alone.

    Args:
        columns: in which rows must differ.
        number: which of the rows with the same values it is, from 1.
        first: where the first of them is.
    """
    which = {2: "second row", 3: "third row"}.get(number, f"row {number}")
    values = "with this value" if len(columns) == 1 else f"with these values of {', '.join(columns)}"
    again = f"{which} {'for this user' if list(columns) == list(customer) else values}, first on {first}"
    return again if audit.test in UNIQUE else f"{audit.description or _fails(audit)}: {again}"


def of_table(audit: Audit, failures: int) -> tuple[str, str | None]:
    """What is wrong with a table as a whole, with the audit's own number where that is a percentage; and what to do."""
    match audit.test:
        case "row_count_change_percent":
            return f"the number of rows is {failures} % off the month before", None
        case "gone_since_month_before_percent":
            return f"{failures} % of the customers of the month before are not in it", OTHER_CUSTOMERS
        case _:
            return f"{audit.description or audit.audit_name} ({failures} found)", None


def _fails(audit: Audit) -> str:
    said = [f"{name}: {value}" for name, value in audit.arguments.items() if name != "column_name"]
    return f"fails {audit.test}({', '.join(said)})"[:SHOWN] if said else f"fails {audit.test}"


def _outside(arguments: Arguments) -> str:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    strictly = arguments.get("strictly")
    if low is None:
        return f"{'not less' if strictly else 'more'} than {high}"
    if high is None:
        return f"{'not more' if strictly else 'less'} than {low}"
    return f"not {'strictly ' if strictly else ''}between {low} and {high}"


def _none_of(arguments: Arguments) -> str:
    return f"is none of {', '.join(map(str, arguments.get('value_set') or arguments.get('values') or []))}"


def _not_after(arguments: Arguments) -> str:
    return f"is {'after' if arguments.get('or_equal') else 'not before'} {str(arguments['column_A']).strip(chr(34))}"


def _not_so(arguments: Arguments) -> str:
    return f"not so: {arguments['expression']} {arguments.get('test_condition', '')}".rstrip()


PHRASES: dict[str, Callable[[Arguments], str]] = {
    "not_null": lambda _: "is empty",
    "expect_column_values_to_not_be_null": lambda _: "is empty",
    "expect_column_values_to_be_between": _outside,
    "expect_column_values_to_be_in_set": _none_of,
    "accepted_values": _none_of,
    "expect_column_values_to_match_regex": lambda arguments: f"does not have the form {arguments['regex']}",
    "expect_column_pair_values_A_to_be_greater_than_B": _not_after,
    "expression_is_true": _not_so,
}
"""The name of a generic test -> why a row fails it."""
