"""Audits of every kind on one small file, declared as in YAML, each with the lines of its guilty rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loader.contract.tables import Table

COLUMNS = "user_id text, age int, fee numeric, gender text, email text, begun date, ended date, parent text"
HEADER = ",".join(column.split()[0] for column in COLUMNS.split(", "))
ROWS = """\
u1,0,10,Female,a@x.org,2024-01-01,2024-02-01,u1
u2,120,0,Male,b@x.org,2024-01-01,2024-01-01,u2
u3,-1,-5,female,bad,2024-01-05,2024-01-01,nobody
u3,60,10.0,,,,2024-01-01,
,121,3,Other,q%{s},2024-01-01,2024-02-01,ghost
u4,,10,Male,c@x.org,2024-01-01,2024-02-01,ghost
u3,60,7,Male,d@x.org,2024-01-01,2024-02-01,u1
,5,7,Male,e@x.org,2024-01-01,2024-02-01,u2
"""
"""Lines 2 to 9 of the file."""

Row = dict[str, Any]

Guilty = Mapping[int, str] | set[int] | None
"""Lines, or line -> the reason that is reported; None means one problem without a line."""


@dataclass(frozen=True)
class Case:
    """One dbt test: name, column, arguments, configuration, guilty rows. `real`: the stand-in does not have it."""

    test: str
    guilty: Guilty
    column: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    real: bool = False
    description: str = ""

    def declared(self, name: str) -> dict[str, Any]:
        """The test as it stands in YAML."""
        declared = {"name": name, "arguments": dict(self.arguments), "config": dict(self.config)}
        return {self.test: {**declared, "description": self.description}}


X = "dbt_expectations."
BETWEEN, IN_SET, UNIQUE = (X + f"expect_column_values_to_{what}" for what in ("be_between", "be_in_set", "be_unique"))
NOT_NULL, REGEX = (X + f"expect_column_values_to_{what}" for what in ("not_be_null", "match_regex"))
PAIR, TRUE = X + "expect_column_pair_values_A_to_be_greater_than_B", X + "expression_is_true"
ROW_COUNT, COMPOUND = X + "expect_table_row_count_to_be_between", X + "expect_compound_columns_to_be_unique"
USERS = {"to": "source('staging', 'users')", "field": "user_id"}
SET = {"value_set": ["Female", "Male"]}
SECOND, THIRD = "second row with this user_id, first on line 4", "third row with this user_id, first on line 4"
AGAIN = "second row with this user_id, first on line 5"
NO_CUSTOMER = "no such user_id in users.csv"
QUOTED = "email not like 'q%{s}' and email <> '%s {0} it''s %(x)s' -- {braces} % and ''"

CASES = {
    "dbt_not_null": Case("not_null", {6: "is empty", 9: "is empty"}, "user_id"),
    "not_null": Case(NOT_NULL, {6: "is empty", 9: "is empty"}, "user_id"),
    "not_null_row_condition": Case(NOT_NULL, {6}, "user_id", {"row_condition": "age > 100"}),
    "not_null_where": Case(NOT_NULL, {9}, "user_id", config={"where": "age < 100"}),
    "not_null_where_with_table": Case("not_null", {9}, "user_id", config={"where": "customers.age < 100"}),
    "between": Case(
        BETWEEN,
        {4: "not between 0 and 120", 6: "not between 0 and 120"},
        "age",
        {"min_value": 0, "max_value": 120},
    ),
    "between_strictly": Case(
        BETWEEN,
        dict.fromkeys([2, 3, 4, 6], "not strictly between 0 and 120"),
        "age",
        {"min_value": 0, "max_value": 120, "strictly": True},
    ),
    "less_strictly": Case(
        BETWEEN, dict.fromkeys([3, 6], "not less than 120"), "age", {"max_value": 120, "strictly": True}
    ),
    "more_strictly": Case(BETWEEN, dict.fromkeys([2, 4], "not more than 0"), "age", {"min_value": 0, "strictly": True}),
    "between_row_condition": Case(BETWEEN, {4: "less than 0"}, "age", {"min_value": 0, "row_condition": "fee < 0"}),
    "between_where": Case(BETWEEN, {6}, "age", {"min_value": 0, "max_value": 120}, {"where": "fee > 0"}),
    "between_limit": Case(BETWEEN, {4, 6}, "age", {"min_value": 0, "max_value": 120}, {"limit": 1}),
    "in_set_with_nulls": Case(IN_SET, dict.fromkeys([4, 5, 6], "is not one of Female, Male"), "gender", SET),
    "in_set_with_a_quote": Case(IN_SET, dict.fromkeys([2, 4, 5, 6], "is not one of Male, O'Neil"), "gender",
        {"value_set": ["Male", "O''Neil"]}),
    "in_set_row_condition": Case(IN_SET, {4, 6}, "gender", {**SET, "row_condition": "gender is not null"}),
    "in_set_unquoted": Case(IN_SET, {4, 6}, "age", {"value_set": [0, 5, 60, 120], "row_condition": "age is not null",
        "quote_values": False}, real=True),
    "in_set_where": Case(IN_SET, {6}, "gender", SET, {"where": "fee = 3"}),
    "accepted_values": Case("accepted_values", {4, 6}, "gender", {"values": ["Female", "Male"]}),
    "accepted_values_twice_wrong": Case("accepted_values", {6, 7}, "parent", {"values": ["u1", "u2", "nobody"]}),
    "regex": Case(REGEX, {4, 5, 6}, "email", {"regex": "^[^@%]+@x[.]org$"}),
    "regex_row_condition": Case(
        REGEX,
        dict.fromkeys([4, 6], "does not have the form @x[.]org{1}$"),
        "email",
        {"regex": "@x[.]org{1}$", "row_condition": "email is not null"},
    ),
    "pair": Case(PAIR, {4: "is after ended"}, None, {"column_A": "ended", "column_B": "begun", "or_equal": True}),
    "pair_strictly": Case(
        PAIR, dict.fromkeys([3, 4], "is not before ended"), None, {"column_A": "ended", "column_B": "begun"}
    ),
    "expression": Case(TRUE, {4: "fails the condition fee >= 0"}, None, {"expression": "fee >= 0"}),
    "expression_with_quotes": Case("holds", {6}, None, {"expression": QUOTED}, description="mail is {odd} at 100 %"),
    "unique": Case(UNIQUE, {5: SECOND, 8: THIRD}, "user_id"),
    "unique_row_condition": Case(UNIQUE, {8: AGAIN}, "user_id", {"row_condition": "age > 0"}),
    "unique_where": Case(UNIQUE, {8: AGAIN}, "user_id", config={"where": "fee > 5"}),
    "dbt_unique": Case("unique", {5: SECOND, 8: THIRD}, "user_id"),
    "dbt_unique_where": Case("unique", {8: AGAIN}, "user_id", config={"where": "fee > 5"}),
    "unique_number": Case("unique", {5, 7, 9}, "fee", config={"where": "fee > 5"}),
    "compound_unique": Case(
        COMPOUND,
        {8: "second row with these values of user_id, age, first on line 5"},
        None,
        {"column_list": ["user_id", "age"]},
    ),
    "compound_unique_with_nulls": Case(COMPOUND, {5, 9}, None, {"column_list": ["user_id", "ended"]}),
    "relationships": Case("relationships", dict.fromkeys([4, 6, 7], NO_CUSTOMER), "parent", USERS),
    "relationships_where": Case("relationships", {4, 6}, "parent", USERS, {"where": "age is not null"}),
    "relationships_narrow_where": Case("relationships", {6}, "parent", USERS,
        {"where": "gender = 'Other' and email = 'q%{s}' and fee = 3 and age = 121"}),
    "own": Case("at_least", {4: "fails at_least(floor: 0)"}, "fee", {"floor": 0}),
    "own_with_description": Case("at_least", {4: "a refund"}, "fee", {"floor": 0}, description="a refund"),
    "own_where": Case("at_least", {3, 4}, "fee", {"floor": 5}, {"where": "gender is not null and fee <> 3"}),
    "own_by_table_name": Case("by_table_name", {4}, "fee"),
    "own_with_import": Case("with_import", {4, 6}, "gender"),
    "own_twice_the_table": Case("twice_the_table", {4}, "fee"),
    "own_of_groups": Case("more_than_once", {2, 3, 7}, "user_id"),
    "own_doubled": Case("own_unique", {5: f"once each: {SECOND}", 8: f"once each: {THIRD}"}, "user_id",
        description="once each"),
    "row_count": Case(ROW_COUNT, None, None, {"min_value": 100}),
    "row_count_too_large": Case(ROW_COUNT, None, None, {"max_value": 3}),
    "row_count_of_few": Case(ROW_COUNT, None, None, {"min_value": 5, "row_condition": "fee = 3"}),
    "row_count_of_groups": Case(ROW_COUNT, None, None, {"min_value": 3, "group_by": ["user_id"]}, real=True),
    "mean": Case(X + "expect_column_mean_to_be_between", None, "age", {"max_value": 10}, real=True),
    "sum": Case(X + "expect_column_sum_to_be_between", None, "fee", {"max_value": 20}, real=True),
    "type": Case(X + "expect_column_values_to_be_of_type", None, "fee", {"column_type": "text"}, real=True),
    "of_a_set_twice": Case(X + "expect_column_values_to_not_be_in_set", {4, 6}, "gender",
        {"value_set": ["female", "female", "Other"]}, real=True),
    "lengths": Case(X + "expect_column_value_lengths_to_equal", {4, 6}, "email",
        {"value": 7, "row_condition": "email is not null"}, real=True),
    "percent": Case("null_share", None, None, {"column": "user_id"},
        {"fail_calc": "coalesce(max(null_percent), 0)", "error_if": "> 10"}),
    "most_rows": Case("most_rows", None, "user_id", config={"fail_calc": "max(row_count)", "error_if": "> 2"}),
    "only_some_told": Case("three_or_free", None, "user_id"),
    "divides_by_zero_on_one_row": Case("divides", None),
}  # fmt: skip

OWN = """
{% test at_least(model, column_name, floor) %}
select * from {{ model }} where {{ column_name }} < {{ floor }} -- too little
{% endtest %}

{% test holds(model, expression) %}
select user_id from {{ model }} as m where not ({{ expression }}
)
{% endtest %}

{% test by_table_name(model, column_name) %}
select customers.* from {{ model }} where customers.{{ column_name }} < 0
{% endtest %}

{% test with_import(model, column_name) %}
with customers as (
    select * from {{ model }}
),

final as (
    select * from customers
)

select {{ column_name }}, user_id from final where {{ column_name }} not in ('Female', 'Male')
{% endtest %}

{% test twice_the_table(model, column_name) %}
select a.* from {{ model }} as a
where a.{{ column_name }} < 0 and exists (select 1 from {{ model }} as b where b.fee = a.fee)
{% endtest %}

{% test more_than_once(model, column_name) %}
select {{ column_name }} from {{ model }} group by {{ column_name }} having count(*) < 2
{% endtest %}

{% test own_unique(model, column_name) %}
select {{ column_name }}, max(as_of) as last from {{ model }}
where {{ column_name }} is not null group by 1 having count(*) >= 2
{% endtest %}

{% test null_share(model, column) %}
select 100 * count(*) filter (where {{ column }} is null) / count(*) as null_percent from {{ model }}
{% endtest %}

{% test most_rows(model, column_name) %}
select {{ column_name }}, count(*) as row_count from {{ model }} group by {{ column_name }}
{% endtest %}

{% test three_or_free(model, column_name) %}
select {{ column_name }} from {{ model }} group by {{ column_name }} having count(*) = 3 or max(fee) = 0
{% endtest %}

{% test divides(model) %}
select count(*) as row_count from {{ model }} having 1 / (count(*) - 1) = 0
{% endtest %}
"""

SINGULAR: dict[str, tuple[str, Guilty]] = {
    "singular": (
        "select * from {{ source('staging', 'customers') }} as c where c.fee < 0 and c.email <> '%s {x}' -- done",
        {4: "fails singular"},
    ),
    "singular_of_constants": (
        "select 1 from {{ source('staging', 'customers') }} as c where c.fee < 0 and c.email <> '%' -- done",
        {4},
    ),
    "singular_of_two_tables": (
        "select c.user_id, c.parent, u.user_id is null as unknown from {{ source('staging', 'customers') }} as c"
        " left join {{ source('staging', 'users') }} as u on u.user_id = c.parent"
        " where u.user_id is null and c.parent = 'ghost'",
        {6, 7},
    ),
    "singular_of_unnamed_rows": (
        "select 1 as one from {{ source('staging', 'customers') }} as c"
        " left join {{ source('staging', 'users') }} as u on u.user_id = c.parent where u.user_id is null",
        None,
    ),
    "singular_that_spares_some": (
        "select c.parent from {{ source('staging', 'customers') }} as c"
        " left join {{ source('staging', 'users') }} as u on u.user_id = c.parent"
        " where u.user_id is null and c.age is null",
        None,
    ),
}
"""Singular tests. The last one returns `ghost` for one of the two rows that have it, and does not say which."""

TABLE = Table.model_validate(
    {"name": "customers", "config": {"meta": {"primary_key": "user_id"}},
     "columns": [dict(zip(("name", "data_type"), column.split(), strict=True)) for column in COLUMNS.split(", ")]}
)  # fmt: skip

GUILTY: dict[str, Guilty] = {
    **{name: case.guilty for name, case in CASES.items() if name != "only_some_told"},
    **{name: guilty for name, (_, guilty) in SINGULAR.items()},
}
