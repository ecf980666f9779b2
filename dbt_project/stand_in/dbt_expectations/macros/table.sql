{% test expect_column_values_to_be_unique(model, column_name, row_condition=none) %}
    select {{ column_name }}, count(*) as n_records
    from {{ model }}
    where {{ column_name }} is not null
    {%- if row_condition %} and ({{ row_condition }}){% endif %}
    group by {{ column_name }}
    having count(*) > 1
{% endtest %}


{% test expect_table_columns_to_match_set(model, column_list, transform="upper") %}
    {%- if execute -%}
        {%- set expected = column_list | map(transform) | list -%}
        {%- set actual = adapter.get_columns_in_relation(model) | map(attribute="name") | map(transform) | list -%}
        {%- set mismatched = [] -%}
        {%- for name in expected if name not in actual %}{% do mismatched.append(name) %}{% endfor -%}
        {%- for name in actual if name not in expected %}{% do mismatched.append(name) %}{% endfor -%}
        {%- for name in mismatched %}
            select {{ dbt.string_literal(name) }} as mismatched_column
            {%- if not loop.last %} union all{% endif %}
        {%- else %}
            select null as mismatched_column where false
        {%- endfor %}
    {%- endif -%}
{% endtest %}


{% test expect_table_row_count_to_be_between(model, min_value=none, max_value=none, group_by=none, row_condition=none, strictly=false) %}
    select count(*) as row_count
    from {{ model }}
    {%- if row_condition %} where {{ row_condition }}{% endif %}
    having not ({{ dbt_expectations.is_between("count(*)", min_value, max_value, strictly) }})
{% endtest %}
