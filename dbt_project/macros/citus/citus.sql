{#- All that a Citus cluster needs beyond one PostgreSQL. Each macro does nothing where the database is not a cluster's. -#}

{% macro is_cluster() %}
    {{ return(run_query("select 1 from pg_extension where extname = 'citus'").rows | length > 0) }}
{% endmacro %}


{#-
  Spreads a new table by its key, beside the history that is there (the tables that refuse changes), so that a customer's rows are on
  one node. A table of staging gets a column for the place of a row in its file, which a table in pieces does not have by itself.
-#}
{% macro spread_over_nodes(relation, key, is_staging=false) %}
    {%- if is_cluster() -%}
        {%- for statement in citus_ddl(relation, key, is_staging) %}{% do run_query(statement) %}{% endfor -%}
    {%- endif -%}
{% endmacro %}


{#- Plain Jinja: the loader renders this macro too. COPY draws the place row by row, for one file at a time. -#}
{% macro citus_ddl(relation, key, is_staging) %}
    {%- set statements = [] -%}
    {%- if is_staging -%}
        {%- set _ = statements.append('create sequence if not exists staging.position_in_file cache 1000') -%}
        {%- set _ = statements.append("select setval('staging.position_in_file', 1, false)") -%}
        {%- set _ = statements.append(
            'alter table ' ~ relation ~ " add column position_in_file bigint not null default nextval('staging.position_in_file')"
        ) -%}
    {%- endif -%}
    {%- set _ = statements.append(
        "select create_distributed_table('" ~ relation ~ "', '" ~ key ~ "', colocate_with => coalesce(("
        ~ "select min(logicalrelid::text) from pg_dist_partition where logicalrelid in ("
        ~ "select tgrelid from pg_trigger where tgfoid = to_regprocedure('ops.refuse_change()'))), 'default'))"
    ) -%}
    {{ return(statements) }}
{% endmacro %}


{#- Citus calls triggers unsafe, as one that writes could write to another node. Those of history only refuse. -#}
{% macro allow_triggers_on_cluster() %}
    {%- if is_cluster() %}{% do run_query('set citus.enable_unsafe_triggers = on') %}{% endif -%}
{% endmacro %}


{#- A temporary table would be the coordinator's own and pull all rows through it: a view leaves the rows on their nodes. -#}
{% macro postgres__create_table_as(temporary, relation, sql) %}
    {%- if temporary and is_cluster() -%}
        create temporary view {{ relation }} as
        {{ sql }}
    {%- else -%}
        {{ dbt.postgres__create_table_as(temporary, relation, sql) }}
    {%- endif -%}
{% endmacro %}


{#- The workers that cannot be reached, or have yet to commit what was prepared there. Plain Jinja: the loader renders it too. -#}
{% macro pending_nodes_sql() %}
    select nodename || ':' || nodeport as node
    from run_command_on_workers($pending$
        select count(*) from pg_prepared_xacts where database = current_database() and gid like 'citus\_%'
    $pending$)
    where not success or result <> '0'
{% endmacro %}


{#-
  A worker that failed while it committed lacks what the others have, without an error, until Citus has looked after it. Whoever
  reads such rows to write others waits for that a little, or fails.
-#}
{% macro require_settled_cluster() %}
    {%- if is_cluster() -%}
        {%- do run_query("
            do $settled$
            declare
                nodes text;
            begin
                for attempt in 1 .. 10 loop
                    select string_agg(node, ', ') into nodes from (" ~ pending_nodes_sql() ~ ") as pending;
                    if nodes is null then
                        return;
                    end if;
                    perform pg_sleep(0.1);
                end loop;
                raise exception '% cannot be reached, or has yet to finish what it was committing when it failed', nodes
                    using hint = 'Citus does that when it is back, within citus.recover_2pc_interval. Then ingest the month again.';
            end;
            $settled$
        ") -%}
    {%- endif -%}
{% endmacro %}


{#-
  Nodes commit one after the other, and a reader could see some of them before and some after: for these milliseconds readers wait.
  Each attempt is shorter than deadlock_timeout, so that no circle of waiting sessions lasts.
-#}
{% macro hide_until_committed(relation) %}
    {%- if is_cluster() -%}
        {%- do run_query("
            do $hide$
            begin
                set local citus.propagate_set_commands = 'local';
                for attempt in 1 .. 60 loop
                    begin
                        set local lock_timeout = '800ms';
                        lock table " ~ relation ~ " in access exclusive mode;
                        set local lock_timeout = 0;
                        return;
                    exception when lock_not_available or deadlock_detected then
                        perform pg_sleep(0.2);
                    end;
                end loop;
                raise exception 'production is being read by another session for too long, and nothing was published'
                    using hint = 'Ingest the month again when that has ended.';
            end;
            $hide$
        ") -%}
    {%- endif -%}
{% endmacro %}
