{#- Dates that models are compiled with, as SQL for `as_of in (...)`; null where there is none. -#}

{#- Whether the ledger is there to be asked; it is not where `dbt compile` meets an empty database. -#}
{% macro ledger_is_there() %}
    {{ return(execute and adapter.get_relation(target.database, 'ops', 'gate') is not none) }}
{% endmacro %}


{#- The date of the month that passed the gate; null where nothing did, or staging has moved on since. -#}
{% macro month_that_passed() %}
    {%- set query -%}
        select coalesce(max(format('date %L', as_of)), 'null::date') from {{ ref('gate') }}
        where load_id = (select max(load_id) from {{ source('ops', 'staged') }})
    {%- endset -%}
    {{ return(run_query(query).rows[0][0] if streamflow.ledger_is_there() else 'null::date') }}
{% endmacro %}


{#-
  The dates whose history a new month of a table is built on: the newest complete one before it, and any earlier one whose history was
  written after that one, because it arrived late or was restated.
-#}
{% macro months_before(table_name) %}
    {%- set query = "select dates from ops.months_before('" ~ table_name ~ "', (select max(gate.as_of) from ops.gate as gate))" -%}
    {{ return(run_query(query).rows[0][0] if streamflow.ledger_is_there() else 'null::date') }}
{% endmacro %}


{#-
  Which rows of history production takes in: those that the dates of plan_production delivered. What archived dates delivered, a rebuild
  takes from the newest one, which carried it forward.
-#}
{% macro newly_delivered(table_name) %}
    {%- do ref('complete_months') -%}
    {%- set plan = streamflow.production_plan(table_name) if streamflow.ledger_is_there() else {'months': 'null::date'} -%}
    as_of in ({{ plan.months }}) and (
        observed_as_of = as_of
        {%- if plan.rebuild and plan.archived %}
        or (as_of = {{ plan.newest }} and observed_as_of in ({{ plan.archived }}))
        {%- endif %}
    )
{%- endmacro %}


{#- The lists of dates that the compiled model reads by these macros. Other months may stand once its step has the lock. -#}
{% macro dates_read() %}
    {{ return(modules.re.findall("(?i)\\bas_of\\s+in\\s*\\(\\s*((?:date '[0-9-]+'(?:, )?)+|null::date)\\s*\\)", model.compiled_code)) }}
{% endmacro %}


{#- What production of a table is to do, as ops.plan_production says; `first` is done before it is asked. -#}
{% macro production_plan(table_name, first='') %}
    {{ return(run_query(first ~ " select * from ops.plan_production('" ~ table_name ~ "', " ~ flags.FULL_REFRESH ~ ")").rows[0]) }}
{% endmacro %}
