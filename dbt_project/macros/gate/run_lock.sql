{#-
  One run at a time: ingest and check hold an advisory lock for as long as they live, exclusively (loader/ledger.py). A step of
  a dbt run by hand shares that lock until it ends, since dbt closes the connection of a step with it: no ingest can
  begin meanwhile, and while an ingest is under way the step is refused. The steps of an ingest's own dbt make sure that
  their ingest still holds the lock: after a lost connection another one may have it.
-#}
{% macro hold_run_lock() %}
    {%- if flags.WHICH != 'run-operation' -%}
        {%- set holder = env_var('STREAMFLOW_LOCK_HOLDER', '') -%}
        {%- if holder -%}
            {%- if not run_query(lock_is_held_sql(holder)).rows[0][0] -%}
                {{ exceptions.raise_compiler_error("the ingest that began this run has lost its connection to the database, and its lock with it") }}
            {%- endif -%}
        {%- elif not run_query("select pg_try_advisory_lock_shared(" ~ run_lock() | join(", ") ~ ")").rows[0][0] -%}
            {{ exceptions.raise_compiler_error(
                "an ingest or a check is under way on this database (`streamflow status` names it): run dbt when it has ended"
            ) }}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{#- The two keys of the advisory lock; loader/ledger.py has the same. -#}
{% macro run_lock() %}
    {{ return([24336, 1]) }}
{% endmacro %}


{#- Whether the session with that process number holds the lock. -#}
{% macro lock_is_held_sql(holder) %}
    select count(*) > 0 from pg_locks
    where locktype = 'advisory' and classid = {{ run_lock()[0] }} and objid = {{ run_lock()[1] }} and mode = 'ExclusiveLock'
        and granted and pid = {{ holder | int }}
        and database = (select oid from pg_database where datname = current_database())
{% endmacro %}
