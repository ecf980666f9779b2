{#- By how many percent the row count differs from that of the newest earlier month, rounded up; no row without one. -#}
{% test row_count_change_percent(model) %}
with month_before as (
    select history.rows_delivered
    from {{ source('ops', 'history') }} as history
    inner join {{ source('ops', 'staged') }} as staged
        on staged.table_name = history.table_name and staged.as_of > history.as_of
    where history.table_name = '{{ streamflow.audited_table(context['model']) }}'
    order by history.as_of desc
    limit 1
),

delivered as (
    select count(*) as row_count from {{ model }}
)

select ceil(100.0 * abs(delivered.row_count - month_before.rows_delivered) / month_before.rows_delivered)::int as change_percent
from delivered cross join month_before
{% endtest %}
