{#-
  The newest delivered row of every customer, among the deliveries that production has not seen yet; among all of them when
  production is rebuilt. `production` is the model of the table, where that is not the model that asks, and `plan` what is known
  of it. Row grain: user_id.
-#}
{% macro newest_of(table_name, production=none, plan=none) %}
    {%- set history = ref(table_name ~ '_snapshots') -%}
    {%- set key = contract_key(production) -%}
    {%- set dates = (plan or merge_plan(table_name)).dates -%}
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
  What production is still to take in, and how. `size` is how many rows it has, and `known`
  has the rows of known_history_sql, where that is at hand.
  `unmerged`: the as_of dates of deliveries that it has not seen, oldest first. `dates`: the dates whose deliveries are read.
  `way`:
    nothing   all is taken in
    fill      the first delivery, into an empty table
    advance   one delivery, newer than all that it has seen; `rows_delivered` are its rows, `rows_total` those of its date's
              history, and `same_file` whether its file is the very one of the delivery before
    merge     several deliveries, or a late one
    rebuild   made anew from all of history: with --full-refresh, or because a month was restated and rows it brought must go
-#}
{% macro merge_plan(table_name, size=none, known=none) %}
    {%- set plan = {'dates': [], 'unmerged': [], 'way': 'nothing', 'same_file': false, 'rows_delivered': none, 'rows_total': none, 'size': size} -%}
    {%- if not execute -%}
        {%- do [source('ops', 'history'), source('ops', 'restatements'), source('ops', 'loads')] -%}
        {{ return(plan) }}
    {%- endif -%}
    {%- set rows = (known or run_query(known_history_sql()).rows) | selectattr('table_name', 'equalto', table_name) | list -%}
    {%- set unmerged, merged = rows | rejectattr('is_merged') | list, rows | selectattr('is_merged') | list -%}
    {%- do plan.update({'unmerged': unmerged | map(attribute='as_of') | list}) -%}
    {%- if flags.FULL_REFRESH or unmerged | selectattr('is_restated') | list -%}
        {%- do plan.update({'way': 'rebuild'}) -%}
    {%- elif unmerged | length == 1 and not merged and size == 0 -%}
        {%- do plan.update({'way': 'fill'}) -%}
    {%- elif unmerged | length == 1 and merged and unmerged[0].as_of > merged[-1].as_of -%}
        {%- do plan.update({
            'way': 'advance',
            'same_file': unmerged[0].sha256 == merged[-1].sha256,
            'rows_delivered': unmerged[0].rows_delivered | int,
            'rows_total': unmerged[0].rows_total | int,
        }) -%}
    {%- elif unmerged -%}
        {%- do plan.update({'way': 'merge'}) -%}
    {%- endif -%}
    {%- do plan.update({'dates': rows | map(attribute='as_of') | list if plan.way == 'rebuild' else plan.unmerged}) -%}
    {{ return(plan) }}
{% endmacro %}


{#- What there is of history. Row grain: table and as_of, oldest first. -#}
{% macro known_history_sql() %}
    select
        history.table_name,
        history.as_of::text as as_of,
        history.merged_at is not null as is_merged,
        restatements.as_of is not null as is_restated,
        history.rows_delivered,
        history.rows_total,
        files.sha256
    from {{ source('ops', 'history') }} as history
    left join {{ source('ops', 'restatements') }} as restatements
        on restatements.table_name = history.table_name and restatements.load_id = history.load_id
        and restatements.as_of = history.as_of
    left join lateral (
        select file ->> 'sha256' as sha256
        from {{ source('ops', 'loads') }} as loads cross join lateral jsonb_array_elements(loads.files) as file
        where loads.load_id = history.load_id and file ->> 'table' = history.table_name
    ) as files on true
    order by history.as_of
{% endmacro %}
