{#-
  A production table: the model's rows are merged in by key, straight from the query, and a row yields only to a newer
  observed_as_of. Rebuilt, the table becomes exactly what the model selects, in place: keys, grants and views on it stay,
  and readers see either the old state or the new one. The first built-in choice, `incremental`, would copy the
  rows once more, let an older delivery overwrite a newer one, and drop the foreign keys on a full refresh.
-#}
{% materialization upsert, adapter='postgres' %}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set plan = merge_plan(source_table()) -%}
    {%- if invocation_args_dict.get('empty') or invocation_args_dict.get('sample') -%}
        {{ exceptions.raise_compiler_error("production is not built from rows that are left out: no --empty, no --sample") }}
    {%- endif -%}
    {{ run_hooks(pre_hooks) }}

    {%- if not plan.unmerged and not plan.rebuild -%}
        {%- call noop_statement('main', 'NOTHING NEW') %}{% endcall -%}
    {%- else -%}
        {%- for as_of in plan.unmerged -%}
            {%- call statement('count_' ~ as_of, auto_begin=True) %}{{ count_merge(target_relation, as_of) }}{% endcall -%}
        {%- endfor -%}
        {%- if plan.rebuild -%}
            {%- call statement('remove', auto_begin=True) %}{{ remove_unknown(target_relation, sql) }}{% endcall -%}
        {%- endif -%}
        {%- call statement('main', auto_begin=True) %}{{ merge_newest(target_relation, sql, plan.rebuild) }}{% endcall -%}
        {%- call statement('mark', auto_begin=True) %}
            update {{ source('ops', 'history') }} set merged_at = clock_timestamp()
            where table_name = '{{ source_table() }}' and merged_at is null;
        {%- endcall -%}
        {{ run_hooks(post_hooks) }}
        {{ adapter.commit() }}
    {%- endif -%}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}


{% macro merge_newest(target_relation, sql, rebuild) %}
    {%- set key = contract_key() -%}
    {%- set columns = contract_columns() -%}
    merge into {{ target_relation }} as target
    using (
        {{ sql }}
    ) as newest
    on target.{{ key }} = newest.{{ key }}
    when matched and {% if rebuild %}{{ rows_differ('newest', 'target', columns) }}
    {%- else %}newest.observed_as_of > target.observed_as_of{% endif %} then update set
        {%- for column in columns if column != key %}
        {{ column }} = newest.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    when not matched then insert ({{ columns | join(', ') }})
    values ({% for column in columns %}newest.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
{% endmacro %}


{#- Enters in ops.history how many customers one delivery brings to production and for how many it changes a value. -#}
{% macro count_merge(target_relation, as_of) %}
    {%- set key = contract_key() -%}
    with delivered as (
        select * from {{ ref(source_table() ~ '_snapshots') }}
        where as_of = date '{{ as_of }}' and observed_as_of = as_of
    ),

    counted as (
        select
            count(*) filter (where target.{{ key }} is null) as rows_inserted,
            count(*) filter (
                where target.observed_as_of <= delivered.observed_as_of
                and {{ rows_differ('delivered', 'target', contract_columns(['observed_as_of'])) }}
            ) as rows_updated
        from delivered left join {{ target_relation }} as target on target.{{ key }} = delivered.{{ key }}
    )

    update {{ source('ops', 'history') }} as history
    set rows_inserted = counted.rows_inserted, rows_updated = counted.rows_updated
    from counted
    where history.table_name = '{{ source_table() }}' and history.as_of = date '{{ as_of }}'
{% endmacro %}


{% macro remove_unknown(target_relation, sql) %}
    {%- set key = contract_key() -%}
    delete from {{ target_relation }} as target
    where not exists (
        select 1 from (
            {{ sql }}
        ) as newest where newest.{{ key }} = target.{{ key }}
    )
{% endmacro %}


{% macro rows_differ(left, right, columns) -%}
    ({% for column in columns %}{{ left }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
    is distinct from ({% for column in columns %}{{ right }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}
