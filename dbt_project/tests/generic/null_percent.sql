{#- Per column the share of missing values in percent, rounded up. Row grain: column. -#}
{% test null_percent(model, columns) %}
with counted as (
    select
        count(*) as row_count
        {%- for column in columns %},
        count({{ adapter.quote(column) }}) as {{ adapter.quote(column) }}
        {%- endfor %}
    from {{ model }}
)

{% for column in columns -%}
select
    '{{ column }}' as column_name,
    ceil(100.0 * (row_count - {{ adapter.quote(column) }}) / nullif(row_count, 0))::int as null_percent
from counted
{% if not loop.last %}union all{% endif %}
{% endfor %}
{% endtest %}
