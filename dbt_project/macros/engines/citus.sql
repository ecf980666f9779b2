{#-
  Every table of staging, production and history is spread by its key, and like the history that is there (the tables that
  refuse changes), so that a customer's rows are on one node. Plain Jinja on purpose: the loader renders this macro too.
-#}
{% macro citus__distribute(relation, key) %}
    select create_distributed_table(
        '{{ relation }}', '{{ key }}',
        colocate_with => coalesce(
            (
                select min(logicalrelid::text) from pg_dist_partition
                where logicalrelid in (select tgrelid from pg_trigger where tgfoid = to_regprocedure('ops.refuse_change()'))
            ),
            'default'
        )
    );
{% endmacro %}


{#-
  The place of a row in its file, from 1, which a table in pieces does not have by itself: COPY draws it row by row, for one
  file at a time. The loader asks for it when it names the rows that an audit failed on.
-#}
{% macro citus__number_rows(table_name) %}
    create sequence if not exists staging.position_in_file cache 1000;
    select setval('staging.position_in_file', 1, false);
    alter table staging."{{ table_name }}"
        add column position_in_file bigint not null default nextval('staging.position_in_file');
{% endmacro %}


{#- The columns that a staging table has besides those of the declaration. -#}
{% macro citus__columns_of_its_own() %}{{ return(['position_in_file']) }}{% endmacro %}


{#-
  `create table as` would make a table of the coordinator's own, and a union at the top would be done there. A column that was
  declared later is the last of its table, wherever it was declared.
-#}
{% macro citus__build_partition(partition, parent, key, query) %}
    {%- set columns = contract_columns() | join(', ') -%}
    create table {{ partition }} (like {{ parent }});
    {{ citus__distribute(partition, key) }}
    insert into {{ partition }} ({{ columns }})
    select {{ columns }} from (
        {{ query }}
    ) as state_on_as_of
{% endmacro %}


{#- Citus sends the nodes the text that the command came in, which must hold no other: EXECUTE gives each a text of its own. -#}
{% macro citus__ddl(command) %}
    do $ddl$
    begin
        execute $command$
    {{ command }}
        $command$;
    end;
    $ddl$;
{% endmacro %}


{#- Citus takes a constraint only in a command of its own. -#}
{% macro citus__alter_table(relation, changes) %}
    {%- for change in changes %}{{ citus__ddl('alter table ' ~ relation ~ ' ' ~ change) }}{% endfor %}
{% endmacro %}


{#- Citus calls triggers unsafe, as one that writes could write to another node. This one only refuses. -#}
{% macro citus__allow_trigger() %}
    set citus.enable_unsafe_triggers = on;
{% endmacro %}


{#- A shard has a fraction of the rows, and there are many at once: the nodes' own settings are right. -#}
{% macro citus__use_memory() %}
    select set_config('jit', 'off', true)
{% endmacro %}


{#- Two sessions that write to the same nodes would wait for each other; the nodes are busy as it is. -#}
{% macro citus__advances() %}{{ return(false) }}{% endmacro %}


{#-
  The workers that cannot be reached, or have a transaction that was prepared there and is not committed yet. Plain Jinja: the
  loader renders this macro too. Row grain: one worker, as host:port.
-#}
{% macro citus__pending_nodes() %}
    select nodename || ':' || nodeport as node
    from run_command_on_workers($pending$
        select count(*) from pg_prepared_xacts where database = current_database() and gid like 'citus\_%'
    $pending$)
    where not success or result <> '0'
{% endmacro %}


{#- Has Citus finish what it would finish within a minute by itself, where this role may: others wait. Plain Jinja, too. -#}
{% macro citus__recover() %}
    select recover_prepared_transactions() where has_function_privilege('recover_prepared_transactions()', 'execute')
{% endmacro %}


{#-
  A worker that failed while it committed has not got yet what the others have, and when it is back, rows are missing there
  without an error until Citus has looked after it. Who reads such rows to write others waits for that a little, or fails.
-#}
{% macro citus__require_settled() %}
    do $settled$
    declare
        nodes text;
    begin
        for attempt in 1 .. 10 loop
            select string_agg(node, ', ') into nodes from ({{ citus__pending_nodes() }}) as pending;
            if nodes is null then
                return;
            end if;
            perform pg_sleep(0.1);
        end loop;
        raise exception '% cannot be reached, or has yet to finish what it was committing when it failed', nodes
            using hint = 'Citus does that when it is back, within citus.recover_2pc_interval. Then ingest the month again.';
    end;
    $settled$
{% endmacro %}


{#-
  Nodes commit one after the other, and a reader could see some of them before and some after: for these milliseconds readers
  wait. It asks again and again, for less than deadlock_timeout each time: those who come meanwhile wait too, and one who reads
  the tables in another order would be waited for in a circle. Where somebody reads for a minute, the month is not published,
  and can be ingested again.
-#}
{% macro citus__hide_until_committed(relations) %}
    do $hide$
    begin
        set local citus.propagate_set_commands = 'local';
        for attempt in 1 .. 60 loop
            begin
                set local lock_timeout = '800ms';
                lock table {{ relations | join(', ') }} in access exclusive mode;
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
{% endmacro %}


{#- A COPY writes to each shard in a transaction of the shard's own. -#}
{% macro citus__landed(staged) %}
    select counted.row_count, shards.in_one_go
    from (select count(*) as row_count from {{ staged }}) as counted
    cross join (
        select bool_and(success and result::bigint <= 1) as in_one_go
        from run_command_on_shards('{{ staged }}', 'select count(distinct xmin::text) from %s')
    ) as shards
{% endmacro %}
