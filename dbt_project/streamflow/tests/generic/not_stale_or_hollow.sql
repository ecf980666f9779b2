{#-
  Finds a table whose rows all equal those of the month before, a column that had values then and is empty now, and a column that had
  several values then and has one now. Stops reading at the first different row or the second value. Row grain: finding, in words.
-#}
{% test not_stale_or_hollow(model) %}
    {%- do config(severity='warn', fail_calc='count(finding)') -%}
    {%- set table_name = streamflow.audited_table(context['model']) -%}
    {%- set staged = streamflow.staged(table_name) -%}
with month_before as materialized (
    select * from {{ source('ops', 'month_before') }}
    where table_name = '{{ table_name }}'
),

known as not materialized (
    select * from {{ streamflow.rows_delivered(table_name, '(select as_of from month_before)') }} as delivered_before
)

select 'every row is as on ' || month_before.as_of as finding
from month_before
where month_before.is_same_file or (
    month_before.is_same_count and not exists (
        select 1
        from (select * from {{ model }}) as delivered
        left join known on {{ streamflow.same_row('delivered', 'known', streamflow.quoted(staged.config.meta.primary_key)) }}
        where {{ streamflow.rows_differ('delivered', 'known', staged.columns.values()) }}
        limit 1
    )
)
{% for column in staged.columns.values() %}
union all
select
    '{{ column.name }} ' || case delivered.found
        when 0 then 'is empty, and was not on ' else 'has a single value, and had more on '
    end || month_before.as_of as finding
from month_before
cross join (select {{ streamflow.up_to_two_values(adapter.quote(column.name), model) }} as found) as delivered
cross join (select {{ streamflow.up_to_two_values(adapter.quote(column.name), 'known') }} as found) as known
where delivered.found < known.found and exists (select 1 from {{ model }} limit 1 offset 1)
{% endfor %}
{% endtest %}
