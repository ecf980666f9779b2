"""What a failed audit says of a row or of a table, in words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

from loader.refusals.audits import UNIQUE, Audit
from loader.refusals.causes import SHOWN

OTHER_CUSTOMERS = "Are these files of another data folder (--data-dir), or is this the database of other data?"


def of_row(audit: Audit, column: str, customer: Sequence[str]) -> str:
    """Why a row is wrong: what whoever declared the audit says of it, or else what its test is known to ask.

    Args:
        column: the one whose value is shown.
        customer: the columns that say whose row it is.
    """
    if audit.description:
        return audit.description
    given, said = audit.arguments, _fails(audit)
    low, high, strictly = given.get("min_value"), given.get("max_value"), given.get("strictly")
    with contextlib.suppress(KeyError):  # somebody's own test may have the name and other arguments
        match audit.test:
            case "relationships":
                known = (re.findall(r"\w+", str(given["to"])) or [""])[-1]
                said = f"no such {'customer' if [column] == list(customer) else 'value'} in {known}.csv"
            case "not_null" | "expect_column_values_to_not_be_null":
                said = "is empty"
            case "expect_column_values_to_be_between" if low is None:
                said = f"{'not less' if strictly else 'more'} than {high}"
            case "expect_column_values_to_be_between" if high is None:
                said = f"{'not more' if strictly else 'less'} than {low}"
            case "expect_column_values_to_be_between":
                said = f"not {'strictly ' if strictly else ''}between {low} and {high}"
            case "expect_column_values_to_be_in_set" | "accepted_values":
                said = f"is none of {', '.join(map(str, given.get('value_set') or given['values']))}"
            case "expect_column_values_to_match_regex":
                said = f"does not have the form {given['regex']}"
            case "expect_column_pair_values_A_to_be_greater_than_B":
                said = (
                    f"is {'after' if given.get('or_equal') else 'not before'} {str(given['column_A']).strip(chr(34))}"
                )
            case "expression_is_true":
                said = f"not so: {given['expression']} {given.get('test_condition', '')}".rstrip()
    return said


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
