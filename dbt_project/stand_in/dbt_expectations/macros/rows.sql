{% test expression_is_true(model, expression, test_condition="= true", group_by_columns=none, row_condition=none) %}
    {{ dbt_expectations.refuse("expression_is_true", "group_by_columns", group_by_columns) }}
    {{ dbt_expectations.rows_where_not(model, "(" ~ expression ~ ") " ~ test_condition, row_condition) }}
{% endtest %}


{% test expect_column_values_to_not_be_null(model, column_name, row_condition=none) %}
    {{ dbt_expectations.rows_where_not(model, column_name ~ " is not null", row_condition) }}
{% endtest %}


{% test expect_column_values_to_be_between(model, column_name, min_value=none, max_value=none, row_condition=none, strictly=false) %}
    {{ dbt_expectations.rows_where_not(model, dbt_expectations.is_between(column_name, min_value, max_value, strictly), row_condition) }}
{% endtest %}


{#- A null is in no set: to allow nulls, exclude them with a row_condition. In a value, write a quote twice. -#}
{% test expect_column_values_to_be_in_set(model, column_name, value_set, quote_values=true, row_condition=none) %}
    {{ dbt_expectations.refuse("expect_column_values_to_be_in_set", "quote_values", quote_values != true) }}
    {%- set values = [] -%}
    {%- for value in value_set -%}
        {%- do values.append("cast('" ~ value ~ "' as " ~ dbt.type_string() ~ ")") -%}
    {%- endfor -%}
    {{ dbt_expectations.rows_where_not(model, "coalesce(" ~ column_name ~ " in (" ~ values | join(", ") ~ "), false)", row_condition) }}
{% endtest %}


{#- A null matches no expression. On PostgreSQL the real package ignores is_raw too. -#}
{% test expect_column_values_to_match_regex(model, column_name, regex, row_condition=none, is_raw=false, flags="") %}
    {{ dbt_expectations.refuse("expect_column_values_to_match_regex", "flags", flags) }}
    {%- set pattern = dbt.string_literal(regex) -%}
    {{ dbt_expectations.rows_where_not(model, "coalesce(" ~ column_name ~ " ~ " ~ pattern ~ ", false)", row_condition) }}
{% endtest %}


{% test expect_column_pair_values_A_to_be_greater_than_B(model, column_A, column_B, or_equal=false, row_condition=none) %}
    {{ dbt_expectations.rows_where_not(model, column_A ~ (" >= " if or_equal else " > ") ~ column_B, row_condition) }}
{% endtest %}


{% macro is_between(expression, min_value, max_value, strictly) -%}
    {%- if min_value is none and max_value is none -%}
        {{ exceptions.raise_compiler_error("You have to provide either a min_value, max_value or both.") }}
    {%- endif -%}
    {%- set equal = "" if strictly else "=" -%}
    true
    {%- if min_value is not none %} and {{ expression }} >{{ equal }} {{ min_value }}{% endif %}
    {%- if max_value is not none %} and {{ expression }} <{{ equal }} {{ max_value }}{% endif %}
{%- endmacro %}


{#- A row passes if its condition is null because a value is null. -#}
{% macro rows_where_not(model, condition, row_condition) %}
    select *
    from {{ model }}
    where not ({{ condition }})
    {%- if row_condition %} and ({{ row_condition }}){% endif %}
{% endmacro %}


{#- Refuses an argument of the real package that this stand-in would ignore, as its verdict could differ. -#}
{% macro refuse(test, argument, value) %}
    {%- if value -%}
        {{ exceptions.raise_compiler_error(
            test ~ ": the stand-in for dbt_expectations does not know the argument `" ~ argument
            ~ "`; install the real package with `dbt deps`."
        ) }}
    {%- endif -%}
{% endmacro %}
