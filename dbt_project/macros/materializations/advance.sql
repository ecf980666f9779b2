{#-
  Production takes a month in while its history is still being built, by the other thread: the one has most to do in one
  transaction, the other in several, and together they use two processors. Only in an ingest's own dbt, which has two threads
  and the run's lock; by hand, and for a month that is late, restated or begun before, this does nothing and `published` does
  all of it after history. The model's name is what makes dbt begin it first among those that wait for the gate.

  Where the server is a cluster it does nothing either. The rows are read from staging, and are those that history calls
  delivered. The transaction ends only when the history of all tables stands, built from the same load: so a month is still
  published after its history, and all of it at one instant.
-#}
{% materialization advance, adapter='postgres' %}
    {%- set load = staged_month() if env_var('STREAMFLOW_LOCK_HOLDER', '') and on_engine('advances')() else none -%}
    {%- if not load -%}
        {%- call noop_statement('main', 'LEFT TO PUBLISHED') %}{% endcall -%}
    {%- else -%}
        {%- do hold_run_lock() -%}
        {{ run_hooks(pre_hooks) }}
        {%- do use_memory() -%}
        {%- if load.is_first -%}
            {%- call statement('without_keys', auto_begin=True) %}{{ put_keys_off(production_models()) }}{% endcall -%}
        {%- endif -%}
        {%- set changed = {} -%}
        {%- for production in production_models() -%}
            {%- do changed.update({production.name: 0}) -%}
            {%- if load.is_first or not load.tables[source_table(production)].same_file -%}
                {%- call statement('delivered', auto_begin=True) -%}
                    {{ fill(production, delivered(production)) if load.is_first else merge_changes(production, delivered(production)) }}
                {%- endcall -%}
                {%- do changed.update({production.name: load_result('delivered').response.rows_affected}) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if load.is_first -%}
            {%- call statement('keys', auto_begin=True) %}{{ missing_keys_ddl(production_models()) }}{% endcall -%}
        {%- endif -%}
        {%- set inserted, counts, standing = rows_inserted(), {}, history_of_load(load.load_id) -%}
        {%- for production in in_the_order_of_history() -%}
            {%- set name = source_table(production) -%}
            {%- if name not in standing -%}
                {%- call statement('wait', auto_begin=True) %}{{ wait_for_history(load.load_id, name) }}{% endcall -%}
                {%- do standing.extend(history_of_load(load.load_id)) -%}
            {%- endif -%}
            {%- do date_the_others(production, load.as_of, load.tables[name].rows_delivered, changed[production.name]) -%}
            {%- do counts.update({
                name: {'inserted': inserted[production.name], 'updated': changed[production.name] - inserted[production.name]}
            }) -%}
        {%- endfor -%}
        {%- call statement('counts', auto_begin=True) %}{{ enter_counts(load.as_of, counts) }}{% endcall -%}
        {%- do hold_run_lock() -%}
        {%- call statement('main', auto_begin=True) %}
            {{ mark_published(complete_months(), api.Relation.create(schema='ops', identifier='published')) }}
        {%- endcall -%}
        {{ run_hooks(post_hooks) }}
        {{ adapter.commit() }}
    {%- endif -%}
    {{ return({'relations': []}) }}
{% endmaterialization %}


{#-
  The load that passed the gate, where it is a month of which there is no history yet, newer than all that production has seen:
  as_of, load_id, is_first, and by table rows_delivered and same_file (as that of the month before). None otherwise.
-#}
{% macro staged_month() %}
    {%- set rows = run_query(staged_month_sql()).rows -%}
    {%- if not rows or rows | rejectattr('is_next') | list -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set tables = {} -%}
    {%- for row in rows -%}
        {%- do tables.update({row.table_name: {'rows_delivered': row.row_count | int, 'same_file': row.same_file}}) -%}
    {%- endfor -%}
    {%- set first_of = rows | selectattr('is_first') | list | length -%}
    {%- if first_of not in [0, rows | length] or first_of and not production_is_empty() -%}
        {{ return(none) }}
    {%- endif -%}
    {{ return({'as_of': rows[0].as_of, 'load_id': rows[0].load_id, 'is_first': first_of > 0, 'tables': tables}) }}
{% endmacro %}


{% macro staged_month_sql() %}
with files as (
    select loads.load_id, file ->> 'table' as table_name, file ->> 'sha256' as sha256
    from {{ source('ops', 'loads') }} as loads cross join lateral jsonb_array_elements(loads.files) as file
),

newest as (
    select distinct on (history.table_name) history.table_name, history.as_of, files.sha256
    from {{ source('ops', 'history') }} as history
    left join files on files.load_id = history.load_id and files.table_name = history.table_name
    order by history.table_name asc, history.as_of desc
)

select
    staged.table_name,
    staged.load_id,
    staged.as_of::text as as_of,
    staged.row_count,
    newest.table_name is null as is_first,
    newest.table_name is null or newest.as_of < staged.as_of and not exists (
        select 1 from {{ source('ops', 'history') }} as unseen where unseen.merged_at is null
    ) as is_next,
    coalesce(newest.sha256 = files.sha256, false) as same_file
from {{ source('ops', 'staged') }} as staged
inner join {{ ref('gate') }} as gate on gate.load_id = staged.load_id
inner join {{ source('ops', 'loads') }} as loads on loads.load_id = staged.load_id and loads.state = 'running' and not loads.restates
left join files on files.load_id = staged.load_id and files.table_name = staged.table_name
left join newest on newest.table_name = staged.table_name
{% endmacro %}


{#- The production models as dbt builds their history: a table that others reference first, and by name. -#}
{% macro in_the_order_of_history() %}
    {%- set models = production_models() | sort(attribute='name') -%}
    {{ return(models | rejectattr('config.meta.references') | list + models | selectattr('config.meta.references') | list) }}
{% endmacro %}


{#- The delivered rows as production has them, from staging. -#}
{% macro delivered(production) %}
    select {{ contract_columns(['observed_as_of'], production) | join(', ') }}, as_of as observed_as_of
    from {{ source('staging', source_table(production)) }}
{% endmacro %}


{#- The tables whose history of a load stands. -#}
{% macro history_of_load(load_id) %}
    {{ return(run_query("select table_name from " ~ source('ops', 'history') ~ " where load_id = " ~ load_id).columns[0].values() | list) }}
{% endmacro %}


{#-
  Waits until the history of a table stands. The other thread builds it, and each step of that holds a lock on the gate; where
  none has been seen for three seconds, it has failed.
-#}
{% macro wait_for_history(load_id, table_name) %}
    do $$
    declare
        polls_without_a_step int := 0;
    begin
        while not exists (select 1 from {{ source('ops', 'history') }} where load_id = {{ load_id }} and table_name = '{{ table_name }}') loop
            perform pg_sleep(0.02);
            if exists (select 1 from pg_locks where relation = '{{ ref('gate') }}'::regclass and pid <> pg_backend_pid()) then
                polls_without_a_step := 0;
            else
                polls_without_a_step := polls_without_a_step + 1;
            end if;
            if polls_without_a_step > 150 then
                raise exception 'the history of this month was not built, so nothing was published';
            end if;
        end loop;
    end;
    $$
{% endmacro %}


{#- Gives the rows that do not differ their new date. Together with those that do, they are the delivery, or the run ends here. -#}
{% macro date_the_others(production, as_of, rows_delivered, changed) %}
    {%- set seen = changed -%}
    {%- if seen < rows_delivered -%}
        {%- call statement('touch', auto_begin=True) %}{{ touch(production, as_of) }}{% endcall -%}
        {%- set seen = seen + load_result('touch').response.rows_affected -%}
    {%- endif -%}
    {%- if seen != rows_delivered -%}
        {%- do refuse_to_build_upon(production, seen ~ " rows of " ~ as_of, rows_delivered ~ " were delivered") -%}
    {%- endif -%}
{% endmacro %}


{#- Name of the production model -> rows that this transaction has inserted, as PostgreSQL counts them. -#}
{% macro rows_inserted() %}
    {%- set inserted = {} -%}
    {%- for row in run_query("select relname, n_tup_ins from pg_stat_xact_user_tables where schemaname = 'public'").rows -%}
        {%- do inserted.update({row[0]: row[1] | int}) -%}
    {%- endfor -%}
    {{ return(inserted) }}
{% endmacro %}


{#- The rows that differ in a value from those that production has, and those that it lacks; it has none of a newer delivery. -#}
{% macro merge_changes(production, rows) %}
    {%- set key = contract_key(production) -%}
    {%- set columns = contract_columns(of=production) -%}
    merge into {{ production.relation_name }} as target
    using (
        {{ rows }}
    ) as delivered
    on target.{{ key }} = delivered.{{ key }}
    when matched and {{ rows_differ('delivered', 'target', contract_columns(['observed_as_of'], production)) }} then update set
        {%- for column in columns if column != key %}
        {{ column }} = delivered.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    when not matched then insert ({{ columns | join(', ') }})
    values ({% for column in columns %}delivered.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
{% endmacro %}


{#-
  Gives every row that the delivery has as production has it the delivery's date: all older rows but those carried forward.
  `not in` (no key is null) is a filter on the table, page after page; for `not exists` PostgreSQL may choose a join that comes
  back in another order, and updates pages at random.
-#}
{% macro touch(production, as_of) %}
    {%- set key = contract_key(production) -%}
    update {{ production.relation_name }} set observed_as_of = date '{{ as_of }}'
    where observed_as_of < date '{{ as_of }}'
        and {{ key }} not in (
            select {{ key }} from {{ graph.nodes['model.' ~ project_name ~ '.' ~ source_table(production) ~ '_snapshots'].relation_name }}
            where as_of = date '{{ as_of }}' and observed_as_of < date '{{ as_of }}'
        )
{% endmacro %}


{% macro fill(production, rows) %}
    insert into {{ production.relation_name }} ({{ contract_columns(of=production) | join(', ') }})
    {{ rows }}
{% endmacro %}


{#-
  Takes the keys of tables that are all empty away until they are filled: building a key once, and checking a foreign key once,
  is several times faster than row by row. Where somebody looks into the tables, or made something that needs their keys, the
  keys stay. missing_keys_ddl brings them back in the same transaction.
-#}
{% macro put_keys_off(models) %}
    do $$
    declare
        key record;
        patience text := current_setting('lock_timeout');
    begin
        set local lock_timeout = '100ms';
        for key in
            select conrelid::regclass as relation, conname from pg_constraint
            where contype in ('f', 'p') and conrelid in (
                {%- for model in models %}'{{ model.relation_name }}'::regclass{{ ', ' if not loop.last }}{% endfor -%}
            )
            order by contype
        loop
            execute format('alter table %s drop constraint %I', key.relation, key.conname);
        end loop;
        perform set_config('lock_timeout', patience, true);
    exception when lock_not_available or dependent_objects_still_exist then
        null;
    end;
    $$
{% endmacro %}


{% macro missing_keys_ddl(models) %}
    {%- set there = run_query(
        "select contype::text || ' ' || relname from pg_constraint inner join pg_class on pg_class.oid = conrelid"
        ~ " where contype in ('p', 'f')"
        ~ " and conrelid = any(array['" ~ models | map(attribute='relation_name') | join("', '") ~ "']::regclass [])"
    ).columns[0].values() -%}
    {%- for model in models %}
        {%- if 'p ' ~ model.alias not in there %}
    alter table {{ model.relation_name }} add primary key ({{ contract_key(model) }});
        {%- endif %}
    {%- endfor %}
    {%- for model in models %}
        {%- if 'f ' ~ model.alias not in there %}{{ foreign_key_ddl(model) }}{% endif %}
    analyze {{ model.relation_name }};
    {%- endfor %}
{% endmacro %}


{#- Whether no production table has a row. -#}
{% macro production_is_empty() %}
    {%- set rows = [] -%}
    {%- for production in production_models() %}{% do rows.append("exists (select 1 from " ~ production.relation_name ~ ")") %}{% endfor -%}
    {{ return(not run_query("select " ~ rows | join(" or ")).rows[0][0]) }}
{% endmacro %}


{#- Enters in ops.history that production has taken the month in, and what that meant for each table. -#}
{% macro enter_counts(as_of, counts) %}
    update {{ source('ops', 'history') }} as history
    set merged_at = clock_timestamp(), rows_inserted = counts.inserted, rows_updated = counts.updated
    from (
        values
        {%- for table_name, count in counts.items() %}
        ('{{ table_name }}', {{ count.inserted }}, {{ count.updated }}){{ ',' if not loop.last }}
        {%- endfor %}
    ) as counts (table_name, inserted, updated)
    where history.table_name = counts.table_name and history.as_of = date '{{ as_of }}'
{% endmacro %}
