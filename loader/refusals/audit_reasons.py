"""What a failed audit says about a row or a table, in words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

from loader.contract.tables import load_contract
from loader.delivery.causes import SHOWN
from loader.refusals.audits import UNIQUE, Audit

OTHER_CUSTOMERS = "Are these files of another data folder (--data-dir), or is this the database of other data?"


def of_row(audit: Audit) -> str:
    """Why a row is wrong: the description of the audit, or else a text for its test."""
    if audit.description:
        return audit.description
    given, said = audit.arguments, _fails(audit)
    with contextlib.suppress(LookupError):  # a project's own test may have the same name and other arguments
        match audit.test:
            case "relationships":
                known, wanted = re.findall(r"\w+", str(given["to"])), {one.name: one.wanted for one in load_contract()}
                said = f"no such {_plain(given['field'])} in {wanted.get(known[-1], known[-1])}"
            case "not_null" | "expect_column_values_to_not_be_null":
                said = "is empty"
            case "expect_column_values_to_be_between":
                said = _not_between(given.get("min_value"), given.get("max_value"), given.get("strictly"))
            case "expect_column_values_to_be_in_set" | "accepted_values":
                said = f"is not one of {', '.join(map(_in_sql, given.get('value_set') or given['values']))}"
            case "expect_column_values_to_match_regex":
                said = f"does not have the form {_in_sql(given['regex'])}"
            case "expect_column_pair_values_A_to_be_greater_than_B":
                said = f"is {'after' if given.get('or_equal') else 'not before'} {_plain(given['column_A'])}"
            case "expression_is_true":
                said = f"fails the condition {given['expression']} {given.get('test_condition', '')}".rstrip()
    return said


def _not_between(low: object, high: object, strictly: object) -> str:
    if low is None:
        return f"{'not less' if strictly else 'more'} than {high}"
    if high is None:
        return f"{'not more' if strictly else 'less'} than {low}"
    return f"not {'strictly ' if strictly else ''}between {low} and {high}"


def remedy_of(audit: Audit) -> str | None:
    """What to do if the audit may be wrong and not the row; None for most tests."""
    in_set = audit.test in {"expect_column_values_to_be_in_set", "accepted_values"}
    return f"If the value is right, add it to {audit.audit_name} in {audit.path}" if in_set else None


def of_double(audit: Audit, columns: Sequence[str], number: int, first: str) -> str:
    """Why a row that passes alone is wrong: it repeats the values of another row.

    Args:
        columns: the columns in which rows must differ.
        number: the row's number among the rows with the same values, from 1.
        first: where the first of them is, like `line 2`.
    """
    which = {2: "second row", 3: "third row"}.get(number, f"row {number}")
    values = f"this {columns[0]}" if len(columns) == 1 else f"these values of {', '.join(columns)}"
    again = f"{which} with {values}, first on {first}"
    return again if audit.test in UNIQUE else f"{audit.description or _fails(audit)}: {again}"


def of_table(audit: Audit, failures: int) -> tuple[str, str | None]:
    """What is wrong with a table as a whole, with the number that the audit returned, and what to do about it."""
    match audit.test:
        case "row_count_change_percent":
            return f"the number of rows differs by {failures} % from the month before", None
        case "gone_since_month_before_percent":
            return f"{failures} % of the customers of the month before are not in it", OTHER_CUSTOMERS
        case _:
            return f"{audit.description or audit.audit_name} ({failures} found)", None


def _plain(name: object) -> str:
    """A column's name without the quotes of SQL."""
    return str(name).strip('"')


def _in_sql(text: object) -> str:
    """Undo the doubled quotes of a text that is declared for use within an SQL string."""
    return str(text).replace("''", "'")


def _fails(audit: Audit) -> str:
    said = [f"{name}: {value}" for name, value in audit.arguments.items() if name != "column_name"]
    return f"fails {audit.test}({', '.join(said)})"[:SHOWN] if said else f"fails {audit.test}"
