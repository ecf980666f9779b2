{#-
  The moment at which a month appears: one transaction takes the new deliveries into all production tables and enters the
  month as published. Rows are merged by key, straight from the query, and a row yields only to a newer observed_as_of. dbt's
  own `incremental` would copy the rows once more, let an older delivery overwrite a newer one, and drop the foreign keys on
  a full refresh. How a table takes a delivery in is chosen by merge_plan; the outcome is the same in every way.
-#}
{% materialization publish, adapter='postgres' %}
    {%- if invocation_args_dict.get('empty') or invocation_args_dict.get('sample') -%}
        {{ exceptions.raise_compiler_error("production is not built from rows that are left out: no --empty, no --sample") }}
    {%- endif -%}
    {%- do hold_run_lock() -%}
    {%- do require_whole_months() -%}
    {{ run_hooks(pre_hooks) }}
    {%- do use_memory() -%}

    {%- set known, sizes = run_query(known_history_sql()).rows, production_sizes() -%}
    {%- set plans, counts = {}, {} -%}
    {%- for production in production_models() -%}
        {%- do plans.update({production.name: merge_plan(source_table(production), sizes[production.name], known)}) -%}
    {%- endfor -%}
    {%- set all_empty = plans.values() | rejectattr('way', 'equalto', 'fill') | list | length == 0 -%}
    {%- if all_empty -%}
        {%- call statement('without_keys', auto_begin=True) %}{{ put_keys_off(production_models()) }}{% endcall -%}
    {%- endif -%}
    {%- for production in production_models() -%}
        {%- do counts.update({source_table(production): take_in(production, plans[production.name])}) -%}
    {%- endfor -%}
    {%- call statement('merged', auto_begin=True) %}{{ mark_merged(counts) }}{% endcall -%}
    {%- if all_empty -%}
        {%- call statement('keys', auto_begin=True) %}{{ missing_keys_ddl(production_models()) }}{% endcall -%}
    {%- endif -%}

    {%- call statement('main', auto_begin=True) %}{{ mark_published(sql) }}{% endcall -%}
    {{ run_hooks(post_hooks) }}
    {{ adapter.commit() }}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmaterialization %}


{#- Stops the run where history of a month was begun for some tables only: production would mix it with the month before. -#}
{% macro require_whole_months() %}
    {%- for as_of in run_query(half_built_sql()).columns[0].values() -%}
        {{ exceptions.raise_compiler_error(
            "history of " ~ as_of ~ " was begun and not finished: ingest that month again. Nothing was published."
        ) }}
    {%- endfor -%}
{% endmacro %}


{#- The dates for which some tables have history that production has not seen, and others lack it. -#}
{% macro half_built_sql() %}
with delivered as (
    select loads.load_id, file ->> 'table' as table_name, file ->> 'sha256' as sha256
    from {{ source('ops', 'loads') }} as loads cross join lateral jsonb_array_elements(loads.files) as file
),

begun as (
    select as_of, max(load_id) as load_id
    from {{ source('ops', 'history') }}
    where merged_at is null
    group by as_of
),

standing as (
    select history.as_of, history.table_name, history.load_id, delivered.sha256
    from {{ source('ops', 'history') }} as history
    left join delivered on delivered.load_id = history.load_id and delivered.table_name = history.table_name
)

select distinct begun.as_of::text
from begun
inner join delivered on delivered.load_id = begun.load_id
left join standing
    on standing.as_of = begun.as_of and standing.table_name = delivered.table_name
    and (standing.load_id = begun.load_id or standing.sha256 = delivered.sha256)
where standing.table_name is null
{% endmacro %}


{#- Has one production table take in what its plan says; returns how many rows are new, and how many have another value. -#}
{% macro take_in(production, plan) %}
    {%- set newest = newest_of(source_table(production), production, plan) -%}
    {%- if plan.way == 'fill' -%}
        {%- call statement('fill', auto_begin=True) %}{{ fill(production, newest) }}{% endcall -%}
        {{ return({'rows_inserted': load_result('fill').response.rows_affected, 'rows_updated': 0}) }}
    {%- elif plan.way == 'advance' -%}
        {{ return(advance(production, plan, newest)) }}
    {%- elif plan.way in ['merge', 'rebuild'] -%}
        {%- for as_of in plan.unmerged -%}
            {%- call statement('count', auto_begin=True) %}{{ count_merge(production, as_of) }}{% endcall -%}
        {%- endfor -%}
        {%- if plan.way == 'rebuild' -%}
            {%- call statement('remove', auto_begin=True) %}{{ remove_unknown(production, newest) }}{% endcall -%}
        {%- endif -%}
        {%- call statement('merge', auto_begin=True) %}{{ merge_newest(production, newest, plan.way) }}{% endcall -%}
    {%- endif -%}
    {{ return({'rows_inserted': none, 'rows_updated': none}) }}
{% endmacro %}


{#-
  A delivery that is newer than all before: rows that differ are merged, and the others only get their new date, which is a
  third of the work. Both together are the delivery's rows, or the transaction ends here. Production has all customers of that
  date's history then, which tells how many are new. A file that is the same as the month before's has no rows that differ.
  Returns how many rows are new and how many have another value.
-#}
{% macro advance(production, plan, newest) %}
    {%- set as_of = plan.unmerged[0] -%}
    {%- set counts = {'rows_inserted': 0, 'rows_updated': 0} -%}
    {%- if not plan.same_file -%}
        {%- call statement('merge', auto_begin=True) %}{{ merge_newest(production, newest, plan.way) }}{% endcall -%}
        {%- do counts.update({'rows_inserted': plan.rows_total - plan.size}) -%}
        {%- do counts.update({'rows_updated': load_result('merge').response.rows_affected - counts.rows_inserted}) -%}
    {%- endif -%}
    {%- set seen = counts.rows_inserted + counts.rows_updated -%}
    {%- if seen < plan.rows_delivered -%}
        {%- call statement('touch', auto_begin=True) %}{{ touch(production, as_of) }}{% endcall -%}
        {%- set seen = seen + load_result('touch').response.rows_affected -%}
    {%- endif -%}
    {%- if seen != plan.rows_delivered -%}
        {{ exceptions.raise_compiler_error(
            production.name ~ " would have " ~ seen ~ " rows of " ~ as_of ~ ", and " ~ plan.rows_delivered ~ " were delivered: is it"
            " what history says? `streamflow verify` tells, `streamflow dbt build --full-refresh` mends it. Nothing was published."
        ) }}
    {%- endif -%}
    {{ return(counts) }}
{% endmacro %}


{#- way: `merge` updates rows of an older delivery, `advance` those of them that differ, `rebuild` all that differ. -#}
{% macro merge_newest(production, newest, way) %}
    {%- set key = contract_key(production) -%}
    {%- set columns = contract_columns(of=production) -%}
    merge into {{ production.relation_name }} as target
    using (
        {{ newest }}
    ) as newest
    on target.{{ key }} = newest.{{ key }}
    when matched
        {%- if way != 'rebuild' %} and newest.observed_as_of > target.observed_as_of{% endif %}
        {%- if way == 'rebuild' %} and {{ rows_differ('newest', 'target', columns) }}{% endif %}
        {%- if way == 'advance' %} and {{ rows_differ('newest', 'target', contract_columns(['observed_as_of'], production)) }}{% endif %}
        then update set
        {%- for column in columns if column != key %}
        {{ column }} = newest.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    when not matched then insert ({{ columns | join(', ') }})
    values ({% for column in columns %}newest.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
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
            select {{ key }} from {{ ref(source_table(production) ~ '_snapshots') }}
            where as_of = date '{{ as_of }}' and observed_as_of < date '{{ as_of }}'
        )
{% endmacro %}


{% macro fill(production, newest) %}
    insert into {{ production.relation_name }} ({{ contract_columns(of=production) | join(', ') }})
    {{ newest }}
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


{#- Name of the model -> rows of the production table. -#}
{% macro production_sizes() %}
    {%- set sizes, counts = {}, [] -%}
    {%- for production in production_models() -%}
        {%- do counts.append("select '" ~ production.name ~ "', count(*) from " ~ production.relation_name) -%}
    {%- endfor -%}
    {%- for row in run_query(counts | join(' union all ')).rows %}{% do sizes.update({row[0]: row[1] | int}) %}{% endfor -%}
    {{ return(sizes) }}
{% endmacro %}


{#- Enters in ops.history how many customers one delivery brings to production and for how many it changes a value. -#}
{% macro count_merge(production, as_of) %}
    {%- set key = contract_key(production) -%}
    with delivered as (
        select * from {{ ref(source_table(production) ~ '_snapshots') }}
        where as_of = date '{{ as_of }}' and observed_as_of = as_of
    ),

    counted as (
        select
            count(*) filter (where target.{{ key }} is null) as rows_inserted,
            count(*) filter (
                where target.observed_as_of <= delivered.observed_as_of
                and {{ rows_differ('delivered', 'target', contract_columns(['observed_as_of'], production)) }}
            ) as rows_updated
        from delivered left join {{ production.relation_name }} as target on target.{{ key }} = delivered.{{ key }}
    )

    update {{ source('ops', 'history') }} as history
    set rows_inserted = counted.rows_inserted, rows_updated = counted.rows_updated
    from counted
    where history.table_name = '{{ source_table(production) }}' and history.as_of = date '{{ as_of }}'
{% endmacro %}


{% macro remove_unknown(production, newest) %}
    {%- set key = contract_key(production) -%}
    delete from {{ production.relation_name }} as target
    where not exists (
        select 1 from (
            {{ newest }}
        ) as newest where newest.{{ key }} = target.{{ key }}
    )
{% endmacro %}


{#- Enters in ops.history what production has taken in now, with the counts that are not entered yet. -#}
{% macro mark_merged(counts) %}
    update {{ source('ops', 'history') }} as history
    set
        merged_at = clock_timestamp(),
        rows_inserted = coalesce(counts.rows_inserted, history.rows_inserted),
        rows_updated = coalesce(counts.rows_updated, history.rows_updated)
    from (
        values
        {%- for table_name, count in counts.items() %}
        ('{{ table_name }}', {{ count.rows_inserted if count.rows_inserted is not none else 'null::bigint' }}, {{ count.rows_updated if count.rows_updated is not none else 'null::bigint' }}){{ ',' if not loop.last }}
        {%- endfor %}
    ) as counts (table_name, rows_inserted, rows_updated)
    where history.table_name = counts.table_name and history.merged_at is null
{% endmacro %}


{#-
  Enters the months that have just become complete, by the model's own SELECT, and closes the attempts that brought them.
-#}
{% macro mark_published(sql) %}
    with complete as (
        {{ sql }}
    ),

    entered as (
        insert into {{ this }} (as_of, load_id, month, published_at)
        select as_of, load_id, month, published_at from complete
        on conflict (as_of) do update
        set load_id = excluded.load_id, month = excluded.month, published_at = excluded.published_at
    )

    update {{ source('ops', 'loads') }} as loads
    set state = 'published', finished_at = complete.published_at
    from complete
    where loads.load_id = complete.load_id
{% endmacro %}


{% macro rows_differ(left, right, columns) -%}
    ({% for column in columns %}{{ left }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
    is distinct from ({% for column in columns %}{{ right }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}
