{% test expect_column_values_to_be_unique(model, column_name, row_condition=none) %}
    select {{ column_name }}, count(*) as n_records
    from {{ model }}
    where {{ column_name }} is not null
    {%- if row_condition %} and ({{ row_condition }}){% endif %}
    group by {{ column_name }}
    having count(*) > 1
{% endtest %}


{#- Ignores rows whose columns are all null; in other rows a null equals a null. -#}
{% test expect_compound_columns_to_be_unique(
    model, column_list, quote_columns=false, ignore_row_if="all_values_are_missing", row_condition=none
) %}
    {{ dbt_expectations.refuse("expect_compound_columns_to_be_unique", "ignore_row_if", ignore_row_if != "all_values_are_missing") }}
    {%- set columns = [] -%}
    {%- for column in column_list %}{% do columns.append(adapter.quote(column) if quote_columns else column) %}{% endfor -%}
    select {{ columns | join(", ") }}, count(*) as n_records
    from {{ model }}
    where coalesce({{ columns | join("::text, ") }}::text) is not null
    {%- if row_condition %} and ({{ row_condition }}){% endif %}
    group by {{ columns | join(", ") }}
    having count(*) > 1
{% endtest %}


{% test expect_table_row_count_to_be_between(model, min_value=none, max_value=none, group_by=none, row_condition=none, strictly=false) %}
    {{ dbt_expectations.refuse("expect_table_row_count_to_be_between", "group_by", group_by) }}
    select count(*) as row_count
    from {{ model }}
    {%- if row_condition %} where {{ row_condition }}{% endif %}
    having not ({{ dbt_expectations.is_between("count(*)", min_value, max_value, strictly) }})
{% endtest %}
