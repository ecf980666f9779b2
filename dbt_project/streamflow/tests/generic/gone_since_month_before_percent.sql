{#-
  The percentage of rows delivered in the month before that are missing from this month, rounded up; null without a month before. It is
  close to 100 if the files belong to another company, or the database holds other data.
-#}
{% test gone_since_month_before_percent(model, column_name) %}
{%- set table_name = streamflow.audited_table(context['model']) -%}
with month_before as materialized (
    select as_of from {{ source('ops', 'month_before') }}
    where table_name = '{{ table_name }}'
)

select ceil(100.0 * count(*) filter (where delivered.{{ column_name }} is null) / nullif(count(*), 0))::int as gone_percent
from {{ api.Relation.create(schema=target.schema, identifier=table_name ~ '_snapshots') }} as known
left join (select * from {{ model }}) as delivered on known.{{ column_name }} = delivered.{{ column_name }}
where known.as_of = (select as_of from month_before) and known.observed_as_of = known.as_of
{% endtest %}
