{#- The change of the row count since the month before, in percent, rounded up; no result row if that month is missing or was empty. -#}
{% test row_count_change_percent(model) %}
with month_before as materialized (
    select rows_delivered from {{ source('ops', 'month_before') }}
    where table_name = '{{ streamflow.audited_table(context['model']) }}' and rows_delivered > 0
),

delivered as (
    select count(*) as row_count from {{ model }}
)

select ceil(100.0 * abs(delivered.row_count - month_before.rows_delivered) / month_before.rows_delivered)::int as change_percent
from delivered cross join month_before
{% endtest %}
