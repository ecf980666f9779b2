{#-
  The newest delivered row of every customer, among the deliveries that production has not seen yet; among all of them when
  production is rebuilt. `production` is the model of the table, where that is not the model that asks. Row grain: user_id.
-#}
{% macro newest_of(table_name, production=none) %}
    {%- set history = ref(table_name ~ '_snapshots') -%}
    {%- set key = contract_key(production) -%}
    {%- set dates = merge_plan(table_name).dates -%}
select{% if dates | length > 1 %} distinct on ({{ key }}){% endif %}
    {{ contract_columns(['observed_as_of'], production) | join(',\n    ') }},
    observed_as_of
from {{ history }}
{%- if dates %}
where
    as_of in ({% for as_of in dates %}date '{{ as_of }}'{{ ', ' if not loop.last }}{% endfor %})
    and observed_as_of = as_of
{%- else %}
where false
{%- endif %}
{%- if dates | length > 1 %}
order by {{ key }} asc, observed_as_of desc
{%- endif %}
{% endmacro %}


{#-
  What production is still to take in. `unmerged`: the as_of dates of deliveries that it has not seen, oldest first.
  `rebuild`: whether it is made anew from all of history: with --full-refresh, or because a month was restated and rows that
  it brought must go. `dates`: the dates whose deliveries are read for that.
-#}
{% macro merge_plan(table_name) %}
    {%- set plan = {'dates': [], 'unmerged': [], 'rebuild': flags.FULL_REFRESH} -%}
    {%- if not execute -%}
        {%- do [source('ops', 'history'), source('ops', 'restatements')] -%}
        {{ return(plan) }}
    {%- endif -%}
    {%- set rows = run_query(
        "select history.as_of::text, history.merged_at is null, restatements.as_of is not null"
        ~ " from " ~ source('ops', 'history') ~ " as history left join " ~ source('ops', 'restatements') ~ " as restatements"
        ~ " on restatements.table_name = history.table_name and restatements.load_id = history.load_id"
        ~ " and restatements.as_of = history.as_of"
        ~ " where history.table_name = '" ~ table_name ~ "' order by history.as_of"
    ).rows -%}
    {%- for row in rows if row[1] -%}
        {%- do plan.unmerged.append(row[0]) -%}
        {%- if row[2] %}{% do plan.update({'rebuild': true}) %}{% endif -%}
    {%- endfor -%}
    {%- do plan.update({'dates': rows | map(attribute=0) | list if plan.rebuild else plan.unmerged}) -%}
    {{ return(plan) }}
{% endmacro %}
