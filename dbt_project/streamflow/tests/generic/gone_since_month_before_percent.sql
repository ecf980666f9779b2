{#-
  How many percent of those delivered in the newest earlier month are not in this one, rounded up; null without one. Nearly all are where
  the files are of another company, or the database of other data. History before this month stands already, so no model is read.
-#}
{% test gone_since_month_before_percent(model, column_name) %}
{%- set table_name = streamflow.audited_table(context['model']) -%}
with month_before as (
    select history.as_of
    from {{ source('ops', 'history') }} as history
    inner join {{ source('ops', 'staged') }} as staged
        on staged.table_name = history.table_name and staged.as_of > history.as_of
    where history.table_name = '{{ table_name }}'
    order by history.as_of desc
    limit 1
)

select ceil(100.0 * count(*) filter (where delivered.{{ column_name }} is null) / nullif(count(*), 0))::int as gone_percent
from {{ api.Relation.create(schema=target.schema, identifier=table_name ~ '_snapshots') }} as known
left join {{ model }} as delivered on known.{{ column_name }} = delivered.{{ column_name }}
where known.as_of = (select as_of from month_before) and known.observed_as_of = known.as_of
{% endtest %}
