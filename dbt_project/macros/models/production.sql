{#-
  The newest delivered row of every customer, among the deliveries that production has not seen yet; among all of them when
  production is rebuilt (--full-refresh). Row grain: user_id.
-#}
{% macro newest_of(table_name) %}
    {%- set history = ref(table_name ~ '_snapshots') -%}
    {%- set key = contract_key() -%}
    {%- set pending = dates_to_merge(table_name) -%}
select{% if pending | length > 1 %} distinct on ({{ key }}){% endif %}
    {{ contract_columns(['observed_as_of']) | join(',\n    ') }},
    observed_as_of
from {{ history }}
{%- if pending %}
where
    as_of in ({% for as_of in pending %}date '{{ as_of }}'{{ ', ' if not loop.last }}{% endfor %})
    and observed_as_of = as_of
{%- else %}
where false
{%- endif %}
{%- if pending | length > 1 %}
order by {{ key }} asc, observed_as_of desc
{%- endif %}
{% endmacro %}


{#- The as_of dates, oldest first, whose deliveries production is still to take in; with `again`, all that there are. -#}
{% macro dates_to_merge(table_name, again=flags.FULL_REFRESH) %}
    {%- set dates = [] -%}
    {%- if execute -%}
        {%- set rows = run_query(
            "select as_of::text from " ~ source('ops', 'history')
            ~ " where table_name = '" ~ table_name ~ "'" ~ ("" if again else " and merged_at is null")
            ~ " order by as_of"
        ).rows -%}
        {%- for row in rows %}{% do dates.append(row[0]) %}{% endfor -%}
    {%- else -%}
        {%- do source('ops', 'history') -%}
    {%- endif -%}
    {{ return(dates) }}
{% endmacro %}
