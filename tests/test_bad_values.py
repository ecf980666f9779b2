"""Every kind of value that a delivery may not have: all of a group in one month, and each alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Streamflow, rejects_of
from tests.files import copy_month, set_value
from tests.test_bad_input import HOSTILE, refused


class Bad(NamedTuple):
    """A wrong value as bytes, its place, and a part of the reason that is reported."""

    file: str
    line: int
    column: str
    value: bytes
    reason: str


def put(folder: Path, *values: Bad) -> None:
    """Put the values into a month's files: first a marker for each, as a value may be bytes that are no text."""
    for number, bad in enumerate(values):
        set_value(folder / bad.file, bad.line, bad.column, f"<{number}>")
    for number, bad in enumerate(values):
        file = folder / bad.file
        file.write_bytes(file.read_bytes().replace(b"<%d>" % number, bad.value))


USERS, SUBSCRIPTIONS, USAGE = "users.csv", "subscriptions.csv", "usage_agg_30d.csv"
PAYMENTS, SUPPORT, LABELS = "payments_agg_90d.csv", "support_agg_90d.csv", "labels.csv"
OF_NO_TYPE = {
    "text for a number": Bad(USAGE, 5, "watch_hours_30d", b'"12,50"', "not a number"),
    "text for a whole number": Bad(USAGE, 6, "skips_7d", b"1.5", "not a whole number"),
    "hostile number": Bad(USAGE, 7, "skips_7d", HOSTILE.encode(), "not a whole number"),
    "NaN": Bad(USAGE, 8, "watch_hours_30d", b"NaN", "NaN and infinity are not values"),
    "infinity": Bad(USAGE, 9, "avg_session_mins_7d", b"-Infinity", "NaN and infinity are not values"),
    "text for a date": Bad(USERS, 5, "signup_date", b"05/01/2022", "not a date like"),
    "a word for a date": Bad(USERS, 6, "signup_date", b"yesterday", "not a date like"),
    "a date that is none": Bad(USERS, 7, "signup_date", b"2023-02-30", "out of range for date"),
    "infinite date": Bad(USERS, 8, "signup_date", b"infinity", "NaN and infinity are not values"),
    "bad UTF-8": Bad(USERS, 9, "user_gender", b"F\xffmale", "is not UTF-8"),
    "NUL byte": Bad(USERS, 10, "user_gender", b"Fe\x00male", "NUL byte"),
    "text for a boolean": Bad(LABELS, 5, "churn_label", b"maybe", "not true or false"),
    "number out of range": Bad(PAYMENTS, 5, "failed_payments_90d", b"2147483648", "out of range for int"),
    "number that no mean can be taken of": Bad(SUBSCRIPTIONS, 5, "total_paid", b"1e309", "out of range for numeric"),
    "number of too many digits": Bad(SUBSCRIPTIONS, 6, "total_paid", b"1e-301", "out of range for numeric"),
}
OF_NO_SENSE = {
    "negative hours": Bad(USAGE, 5, "watch_hours_30d", b"-0.001", "not between 0 and 744"),
    "negative fee": Bad(SUBSCRIPTIONS, 5, "monthly_fee", b"-1", "less than 0"),
    "negative count": Bad(SUPPORT, 5, "support_tickets_90d", b"-1", "less than 0"),
    "endless field": Bad(SUBSCRIPTIONS, 7, "contract_type", b"x" * 200_000, "is not one of"),
    "more months than a life has": Bad(SUBSCRIPTIONS, 8, "months_active", b"1201", "months_active"),
    "signup after as_of": Bad(USERS, 5, "signup_date", b"2024-03-01", "is after as_of"),
    "hostile value": Bad(USERS, 6, "user_gender", HOSTILE.encode(), "is not one of"),
    "endless user_id": Bad(USERS, 7, "user_id", b"x" * 9000, "user_id_well_formed"),
    "blank user_id": Bad(USERS, 8, "user_id", b"   ", "user_id_well_formed"),
    "blank around a user_id": Bad(USERS, 9, "user_id", b" padded", "user_id_well_formed"),
    "empty user_id": Bad(LABELS, 5, "user_id", b"", "is empty"),
}  # fmt: skip
NO_USER = "no such user_id in users.csv"


@pytest.mark.parametrize("values", [OF_NO_TYPE, OF_NO_SENSE], ids=["of no type", "of no sense"])
def test_every_bad_value_of_a_month_is_named(
    january: Streamflow, months: Path, tmp_path: Path, values: dict[str, Bad]
) -> None:
    """The only other rows named are those of customers whose id is wrong in users.csv."""
    put(copy_month(months, "001", tmp_path), *values.values())
    refused(january, tmp_path)
    found = [(row["file"], int(row["line"]), f"{row['reason']} [{row['audit']}]") for row in rejects_of(january, "001")]
    for file, line, _, _, reason in values.values():
        assert [text for *place, text in found if place == [file, line] and reason in text], (file, line, reason)
    named = {(bad.file, bad.line) for bad in values.values()}
    assert {text.split(" [")[0] for file, line, text in found if (file, line) not in named} <= {NO_USER}


@pytest.mark.long
@pytest.mark.parametrize("bad", [*OF_NO_TYPE.values(), *OF_NO_SENSE.values()], ids=[*OF_NO_TYPE, *OF_NO_SENSE])
def test_a_bad_value_alone(january: Streamflow, months: Path, tmp_path: Path, bad: Bad) -> None:
    put(copy_month(months, "001", tmp_path), bad)
    result = refused(january, tmp_path)
    assert f"{bad.file}:{bad.line} " in result.err
    assert bad.reason in result.err
