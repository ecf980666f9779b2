{#- By how many percent the row count differs from that of the month before, rounded up; no row without one. -#}
{% test row_count_change_percent(model) %}
select
    ceil(100.0 * abs((select count(*) from {{ model }}) - month_before.rows_delivered) / month_before.rows_delivered)::int as change_percent
from {{ source('ops', 'month_before') }} as month_before
where month_before.table_name = '{{ streamflow.audited_table(context['model']) }}'
{% endtest %}
