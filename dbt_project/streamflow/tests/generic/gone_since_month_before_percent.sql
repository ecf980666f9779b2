{#-
  How many percent of those delivered in the month before are not in this one, rounded up; null without one. Nearly all are where the
  files are of another company, or the database of other data.
-#}
{% test gone_since_month_before_percent(model, column_name) %}
select ceil(100.0 * count(*) filter (where delivered.{{ column_name }} is null) / nullif(count(*), 0))::int as gone_percent
from {{ streamflow.rows_of_month_before(streamflow.audited_table(context['model'])) }} as known
left join {{ model }} as delivered on known.{{ column_name }} = delivered.{{ column_name }}
{% endtest %}
