{#- Dates that models are compiled with, as SQL for `as_of in (...)`; null if there is none. -#}

{#- Whether the ledger can be queried. It is missing when `dbt compile` runs on an empty database. -#}
{% macro ledger_is_there() %}
    {{ return(execute and adapter.get_relation(target.database, 'ops', 'gate') is not none) }}
{% endmacro %}


{#- The date of the month that passed the gate; null if none did, or if staging holds another load since. -#}
{% macro month_that_passed() %}
    {%- set query -%}
        select coalesce(max(format('date %L', as_of)), 'null::date') from {{ ref('gate') }}
        where load_id = (select max(load_id) from {{ source('ops', 'staged') }})
    {%- endset -%}
    {{ return(run_query(query).rows[0][0] if streamflow.ledger_is_there() else 'null::date') }}
{% endmacro %}


{#-
  The dates whose history a new month of a table is built on: the newest complete date before it, and any earlier date whose history was
  written by a later load because that date arrived late or was restated. `new_month` is SQL; by default the month that is being built.
-#}
{% macro months_before(table_name, new_month='(select max(gate.as_of) from ops.gate as gate)') %}
    {%- set query = "select dates from ops.months_before('" ~ table_name ~ "', " ~ new_month ~ ")" -%}
    {{ return(run_query(query).rows[0][0] if streamflow.ledger_is_there() else 'null::date') }}
{% endmacro %}


{#-
  The condition for the rows of history that production takes in: those that the dates of ops.plan_production delivered. A rebuild takes
  the deliveries of archived dates from the dates that carried them forward.
-#}
{% macro newly_delivered(table_name) %}
    {%- do ref('complete_months') -%}
    {%- set plan = streamflow.production_plan(table_name) if streamflow.ledger_is_there() else {'months': 'null::date'} -%}
    as_of in ({{ plan.months }}) and (
        observed_as_of = as_of{{ streamflow.rows_of_archived_dates(table_name, plan) }}
    )
{%- endmacro %}


{#-
  The rest of that condition in a rebuild, if months are archived: their rows are read from the dates that a month after all others would
  carry forward, as only these have every row of an archived date that still counts.
-#}
{% macro rows_of_archived_dates(table_name, plan) -%}
    {%- if plan.rebuild and plan.archived %}
        or (as_of in ({{ streamflow.months_before(table_name, "'infinity'") }}) and observed_as_of in ({{ plan.archived }}))
    {%- endif -%}
{%- endmacro %}


{#- The lists of dates in the compiled model. A strategy checks them once it has the lock: months may have changed since. -#}
{% macro dates_read() %}
    {{ return(modules.re.findall("(?i)\\bas_of\\s+in\\s*\\(\\s*((?:date '[0-9-]+'(?:, )?)+|null::date)\\s*\\)", model.compiled_code)) }}
{% endmacro %}


{#- The row of ops.plan_production for a table; `first` is SQL to run before that query. -#}
{% macro production_plan(table_name, first='') %}
    {{ return(run_query(first ~ " select * from ops.plan_production('" ~ table_name ~ "', " ~ flags.FULL_REFRESH ~ ")").rows[0]) }}
{% endmacro %}
