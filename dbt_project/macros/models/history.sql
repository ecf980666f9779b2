{#-
  The full state of one table on the as_of of the load that passed the gate.
  Row grain: user_id. Delivered rows as they came, and for every customer who was known before and is not in this delivery
  the newest earlier row, carried forward with the observed_as_of of the delivery that brought it. `plan` is what is to be
  built, where that is known.
-#}
{% macro history_of(table_name, plan=none) %}
    {%- set staged = source('staging', table_name) -%}
    {%- set gate = ref('gate') -%}
    {%- set plan = plan or (no_history() if env_var('STREAMFLOW_LOCK_HOLDER', '') else history_plan(table_name, gate)) -%}
    {%- set key = contract_key() -%}
    {%- set columns = contract_columns(['as_of', 'observed_as_of']) -%}
with delivered as not materialized (
    select
        {{ columns | join(',\n        ') }},
        as_of,
        as_of as observed_as_of
    from {{ staged }}
    {%- if not plan.as_of %}
    where false
    {%- endif %}
)
{%- if not plan.built_on %}
select * from delivered
{%- else %},

known_before as (
    select{% if plan.built_on | length > 1 %} distinct on ({{ key }}){% endif %}
        {{ columns | join(',\n        ') }},
        date '{{ plan.as_of }}' as as_of,
        observed_as_of
    from {{ this }}
    where{{ '\n        ' if plan.built_on | length > 1 else ' ' }}as_of in ({% for as_of in plan.built_on %}date '{{ as_of }}'{{ ', ' if not loop.last }}{% endfor %})
    {%- if plan.built_on | length > 1 %}
        -- what a date delivered is in its own partition; an older copy of it may be from before it was restated
        and (
            as_of = observed_as_of
            or observed_as_of not in ({% for as_of in plan.built_on %}date '{{ as_of }}'{{ ', ' if not loop.last }}{% endfor %})
        )
    order by {{ key }} asc, observed_as_of desc, as_of = observed_as_of desc
    {%- endif %}
),

carried_forward as (
    select *
    from known_before
    {%- if plan.same_file %}
    -- the month before delivered the same customers, so those whom it carried forward are not in this delivery either
    where observed_as_of < date '{{ plan.built_on[0] }}'
    {%- else %}
    where not exists (
        select 1
        from delivered
        where delivered.{{ key }} = known_before.{{ key }}
    )
    {%- endif %}
)

select * from delivered
union all
select * from carried_forward
{%- endif %}
{% endmacro %}


{#-
  What is to be built: as_of and load_id of the load that passed the gate (none where there is none, or staging has moved
  on), whether its history stands already, the partition that it replaces (none unless it was built from another file and the
  load restates the month, or the month was never published), the dates it is built on: the newest one before it, and any earlier one whose history was written
  after that one, because it arrived late or was restated; and whether it is built on one date alone, which brought the same file.
-#}
{% macro history_plan(table_name, gate) %}
    {%- set plan = no_history() -%}
    {%- if execute -%}
        {%- set rows = run_query(history_plan_sql(table_name, gate)).rows -%}
        {%- for row in rows -%}
            {%- do plan.update({'as_of': row[0], 'load_id': row[1], 'is_built': row[2], 'replaces': row[3], 'was_published': row[4]}) -%}
            {%- if row[5] %}{% do plan.built_on.append(row[5]) %}{% endif -%}
            {%- do plan.update({'same_file': plan.built_on | length == 1 and row[6]}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(plan) }}
{% endmacro %}


{#- The plan where there is nothing to build; and of a model's SELECT in an ingest, which the materialization compiles anew. -#}
{% macro no_history() %}
    {{ return({
        'as_of': none, 'load_id': none, 'is_built': false, 'replaces': none, 'was_published': false, 'built_on': [], 'same_file': false
    }) }}
{% endmacro %}


{% macro history_plan_sql(table_name, gate) %}
with delivered_files as (
    select loads.load_id, loads.restates, file ->> 'sha256' as sha256
    from {{ source('ops', 'loads') }} as loads cross join lateral jsonb_array_elements(loads.files) as file
    where file ->> 'table' = '{{ table_name }}'
),

passed as (
    select
        gate.as_of,
        gate.load_id,
        delivered_files.restates,
        delivered_files.sha256,
        exists (
            select 1 from {{ source('ops', 'loads') }} as loads where loads.as_of = gate.as_of and loads.state = 'published'
        ) as was_published
    from {{ gate }} as gate
    inner join {{ source('ops', 'staged') }} as staged on staged.load_id = gate.load_id
    inner join delivered_files on delivered_files.load_id = gate.load_id
    where staged.table_name = '{{ table_name }}'
),

known as (
    select history.as_of, history.build_number, history.partition_name, delivered_files.sha256
    from {{ source('ops', 'history') }} as history
    left join delivered_files on delivered_files.load_id = history.load_id
    where history.table_name = '{{ table_name }}'
),

month_before as (
    select known.as_of, known.build_number
    from known inner join passed on known.as_of < passed.as_of
    order by known.as_of desc limit 1
),

built_on as (
    select known.as_of, known.sha256
    from known inner join month_before
        on known.as_of <= month_before.as_of and known.build_number >= month_before.build_number
)

select
    passed.as_of::text,
    passed.load_id,
    coalesce(passed.was_published and not passed.restates or standing.sha256 = passed.sha256, false)
    and standing.as_of is not null,
    standing.partition_name,
    passed.was_published,
    built_on.as_of::text,
    built_on.sha256 = passed.sha256
from passed
left join known as standing on standing.as_of = passed.as_of
left join built_on on true
{% endmacro %}
