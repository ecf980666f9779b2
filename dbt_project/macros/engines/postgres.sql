{#- Makes a table that was just created one that is spread over the nodes by `key`. Here there is one node. -#}
{% macro postgres__distribute(relation, key) %}{% endmacro %}


{#- What keeps the order of the file's lines: here a new table has it by itself. -#}
{% macro postgres__number_rows(table_name) %}{% endmacro %}


{#- The columns that a staging table has besides those of the declaration. -#}
{% macro postgres__columns_of_its_own() %}{{ return([]) }}{% endmacro %}


{#- Fills a new partition of a history table, which is not attached yet, with the rows of a query, whose number is the result. -#}
{% macro postgres__build_partition(partition, parent, key, query) %}
    create table {{ partition }} as
    {{ query }}
{% endmacro %}


{#- One command of DDL. -#}
{% macro postgres__ddl(command) %}
    {{ command }};
{% endmacro %}


{#- Several changes of a table: in one command, for which the rows are read once. -#}
{% macro postgres__alter_table(relation, changes) %}
    alter table {{ relation }}
        {{ changes | join(',\n        ') }};
{% endmacro %}


{#- What must be set before a trigger can be made on a table of history. -#}
{% macro postgres__allow_trigger() %}{% endmacro %}


{#-
  Lets the transaction sort and hash a million customers in memory, up to a limit that a small server can give; a server set
  to more keeps its own. Compiling a statement to machine code costs more than it saves in statements that run once.
-#}
{% macro postgres__use_memory() %}
    select
        set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')), 64 << 20)::bigint / 1024 || 'kB', true),
        set_config(
            'maintenance_work_mem',
            greatest(pg_size_bytes(current_setting('maintenance_work_mem')), 256 << 20)::bigint / 1024 || 'kB', true
        ),
        set_config('jit', 'off', true)
{% endmacro %}


{#- Whether production can take a month in while another session builds its history. -#}
{% macro postgres__advances() %}{{ return(true) }}{% endmacro %}


{#- What must hold before rows are read that another transaction has written: here its commit is enough. -#}
{% macro postgres__require_settled() %}{% endmacro %}


{#- What a transaction must do, before it ends, so that readers see all of it or nothing. -#}
{% macro postgres__hide_until_committed(relations) %}{% endmacro %}


{#- Of a staging table: row_count, and in_one_go: whether one transaction wrote all of it. Row grain: one row. -#}
{% macro postgres__landed(staged) %}
    select
        count(*) as row_count,
        count(*) filter (where staged.xmin <> (select any_row.xmin from {{ staged }} as any_row limit 1)) = 0 as in_one_go
    from {{ staged }} as staged
{% endmacro %}
