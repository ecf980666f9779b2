{#-
  Dates that are compiled into models, as SQL for `as_of in (...)`; null::date if there is none. The comment after the dates lets a
  strategy tell them from dates that the model's author wrote.
-#}

{#- Whether the ledger can be queried. It is missing when `dbt compile` runs on an empty database. -#}
{% macro ledger_is_there() %}
    {{ return(execute and adapter.get_relation(target.database, 'ops', 'gate') is not none) }}
{% endmacro %}


{#- The date of the month that passed the gate; null if none did, or if staging holds another load since. -#}
{% macro month_that_passed() %}
    {%- set query -%}
        select coalesce(max(format('date %L', as_of)), 'null::date') from {{ ref('streamflow', 'gate') }}
        where load_id = (select max(load_id) from {{ source('ops', 'staged') }})
    {%- endset -%}
    {{ return(run_query(query).rows[0][0] if streamflow.ledger_is_there() else 'null::date') }}
{% endmacro %}


{#-
  The dates whose history a new month of a table is built on: the newest complete date before it, and any earlier date whose history was
  written by a later load because that date arrived late or was restated.
-#}
{% macro months_before(table_name) %}
    {%- set query = "select dates from ops.months_before('" ~ table_name ~ "', (select max(gate.as_of) from ops.gate as gate))" -%}
    {{ return((run_query(query).rows[0][0] if streamflow.ledger_is_there() else 'null::date') ~ ' /* months_before */') }}
{% endmacro %}


{#-
  The condition for the rows of history that production takes in, like `as_of in (date '2024-02-29') and observed_as_of = as_of`: those that
  newly complete months delivered. It reads none while there is no ledger.
-#}
{% macro newly_delivered(table_name) %}
    {%- do ref('streamflow', 'complete_months') -%}  {#- production waits for all of history -#}
    {{ streamflow.production_plan(table_name).reads if streamflow.ledger_is_there() else 'as_of in (null::date)' }} /* newly_delivered */
{%- endmacro %}


{#- The row of ops.plan_production for a table; `first` is SQL to run before that query. -#}
{% macro production_plan(table_name, first='') %}
    {{ return(run_query(first ~ " select * from ops.plan_production('" ~ table_name ~ "', " ~ flags.FULL_REFRESH ~ ")").rows[0]) }}
{% endmacro %}
