{#- Dates as SQL, for `as_of in (...)`; null where there is none. -#}
{% macro dates(list) %}
    {%- set found = [] -%}
    {%- for date in list %}{% do found.append("date '" ~ date ~ "'") %}{% endfor -%}
    {{ return(found | join(', ') or 'null::date') }}
{% endmacro %}


{#- Whether the ledger is there to be asked; it is not where `dbt compile` meets an empty database. -#}
{% macro ledger_is_there() %}
    {{ return(execute and adapter.get_relation(target.database, 'ops', 'gate') is not none) }}
{% endmacro %}


{#- The date of the month that passed the gate, as SQL; null where nothing did, or staging has moved on since. -#}
{% macro month_that_passed() %}
    {%- set gate, staged = ref('gate'), source('ops', 'staged') -%}
    {%- set found = [] -%}
    {%- if streamflow.ledger_is_there() -%}
        {%- set query = "select as_of::text from " ~ gate ~ " where load_id = (select max(load_id) from " ~ staged ~ ")" -%}
        {%- do found.extend(run_query(query).columns[0].values()) -%}
    {%- endif -%}
    {{ return(streamflow.dates(found)) }}
{% endmacro %}


{#-
  The dates whose history a new month of a table is built on, as SQL: the newest complete one before it, and any earlier one whose
  history was written after that one, because it arrived late or was restated.
-#}
{% macro months_before(table_name) %}
    {%- set gate = ref('gate') -%}
    {%- set query -%}
        with known as (
            select history.as_of, history.load_id
            from {{ source('ops', 'standing_history') }} as history
            where
                history.table_name = '{{ table_name }}'
                and history.as_of < (select max(as_of) from {{ gate }})
        ),

        newest as (
            select load_id from known
            order by as_of desc
            limit 1
        )

        select known.as_of::text as as_of, archived.folder
        from known
        inner join newest on known.load_id >= newest.load_id
        left join {{ source('ops', 'archived') }} as archived on archived.as_of = known.as_of and archived.table_name = '{{ table_name }}'
        order by known.as_of desc
    {%- endset -%}
    {%- set found = run_query(query).rows if streamflow.ledger_is_there() else [] -%}
    {%- for month in found if month.folder -%}
        {{ exceptions.raise_compiler_error(
            "this month is built on " ~ month.as_of ~ ", which is archived in " ~ month.folder ~ ": `streamflow archive --restore "
            ~ month.as_of ~ "` first. Nothing was changed."
        ) }}
    {%- endfor -%}
    {{ return(streamflow.dates(found | map(attribute='as_of'))) }}
{% endmacro %}


{#-
  Which rows of history production takes in, as SQL: those that the dates of production_plan delivered. What archived dates delivered,
  a rebuild takes from the newest one, which carried it forward.
-#}
{% macro newly_delivered(table_name) %}
    {%- do ref('complete_months') -%}
    {%- set plan = streamflow.production_plan(table_name) -%}
    as_of in ({{ streamflow.dates(plan.months) }}) and (
        observed_as_of = as_of
        {%- if plan.rebuild and plan.archived %}
        or (as_of = {{ streamflow.dates(plan.months[-1:]) }} and observed_as_of in ({{ streamflow.dates(plan.archived) }}))
        {%- endif %}
    )
{%- endmacro %}


{#-
  What production of a table is to do. `unmerged`: the dates of complete months that it has not taken in yet. `rebuild`: whether it is
  made to be what all of history says, with --full-refresh, or because a restated month no longer has all rows that it brought.
  `months`: the dates whose deliveries are read; the newest one again where there is nothing new, which changes nothing.
-#}
{% macro production_plan(table_name) %}
    {%- set plan = {'months': [], 'unmerged': [], 'archived': [], 'rebuild': flags.FULL_REFRESH} -%}
    {%- if streamflow.ledger_is_there() -%}
        {%- set rows = run_query(streamflow.complete_history_sql(table_name)).rows -%}
        {%- for row in rows if not row.is_merged -%}
            {%- do plan.unmerged.append(row.as_of) -%}
            {%- if row.is_restated %}{% do plan.update({'rebuild': true}) %}{% endif -%}
        {%- endfor -%}
        {%- for row in rows if row.is_archived %}{% do plan.archived.append(row.as_of) %}{% endfor -%}
        {%- set every_month = rows | map(attribute='as_of') | list -%}
        {%- do plan.update({'months': every_month if plan.rebuild else (plan.unmerged or every_month[-1:])}) -%}
    {%- endif -%}
    {{ return(plan) }}
{% endmacro %}


{% macro complete_history_sql(table_name) %}
    select
        history.as_of::text as as_of,
        history.merged_at is not null as is_merged,
        restatements.as_of is not null as is_restated,
        archived.as_of is not null as is_archived
    from {{ source('ops', 'standing_history') }} as history
    left join {{ source('ops', 'restatements') }} as restatements
        on
            restatements.table_name = history.table_name
            and restatements.as_of = history.as_of
            and restatements.load_id = history.load_id
    left join {{ source('ops', 'archived') }} as archived
        on archived.table_name = history.table_name and archived.as_of = history.as_of
    where history.table_name = '{{ table_name }}'
    order by history.as_of
{% endmacro %}
