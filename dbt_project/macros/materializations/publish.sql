{#-
  The moment at which a month appears: one transaction merges the new deliveries into all production tables and enters the
  month as published. Rows are merged by key, straight from the query, and a row yields only to a newer observed_as_of. A
  rebuilt table becomes exactly what history says, in place: keys, grants and views on it stay. dbt's own `incremental` would
  copy the rows once more, let an older delivery overwrite a newer one, and drop the foreign keys on a full refresh.
-#}
{% materialization publish, adapter='postgres' %}
    {%- if invocation_args_dict.get('empty') or invocation_args_dict.get('sample') -%}
        {{ exceptions.raise_compiler_error("production is not built from rows that are left out: no --empty, no --sample") }}
    {%- endif -%}
    {%- do hold_run_lock() -%}
    {%- do require_whole_months() -%}
    {{ run_hooks(pre_hooks) }}
    {%- do use_memory() -%}

    {%- set pending = pending_tables() -%}
    {%- if pending %}{% do require_settled() %}{% endif -%}
    {%- for production in production_models() if source_table(production) in pending -%}
        {%- set plan = merge_plan(source_table(production)) -%}
        {%- set newest = newest_of(source_table(production), production) -%}
        {%- for as_of in plan.unmerged -%}
            {%- set counts = run_query(count_merge(production, as_of)).rows[0] -%}
            {%- call statement('count', auto_begin=True) %}{{ enter_merge(production, as_of, counts) }}{% endcall -%}
        {%- endfor -%}
        {%- if plan.rebuild -%}
            {%- call statement('remove', auto_begin=True) %}{{ remove_unknown(production, newest) }}{% endcall -%}
        {%- endif -%}
        {%- if plan.unmerged or plan.rebuild -%}
            {%- call statement('merge', auto_begin=True) %}{{ merge_newest(production, newest, plan.rebuild) }}{% endcall -%}
        {%- endif -%}
        {%- if plan.unmerged | length == 1 and not plan.rebuild -%}
            {%- do require_what_history_says(production, plan.unmerged[0]) -%}
        {%- endif -%}
        {%- if plan.unmerged -%}
            {%- call statement('mark', auto_begin=True) %}{{ mark_merged(source_table(production), plan.unmerged) }}{% endcall -%}
        {%- endif -%}
    {%- endfor -%}

    {%- set hide = on_engine('hide_until_committed')(production_models() | map(attribute='relation_name')) | trim -%}
    {%- if hide and pending %}{% call statement('hide', auto_begin=True) %}{{ hide }}{% endcall %}{% endif -%}
    {%- call statement('main', auto_begin=True) %}{{ mark_published(sql, this) }}{% endcall -%}
    {{ run_hooks(post_hooks) }}
    {{ adapter.commit() }}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmaterialization %}


{#- The tables that production is still to take something in of; all of them when it is made anew. -#}
{% macro pending_tables() %}
    {%- set unmerged = run_query("select distinct table_name from " ~ source('ops', 'history') ~ " where merged_at is null") -%}
    {{ return(declared_tables() if flags.FULL_REFRESH else unmerged.columns[0].values() | list) }}
{% endmacro %}


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


{% macro merge_newest(production, newest, rebuild) %}
    {%- set key = contract_key(production) -%}
    {%- set columns = contract_columns(of=production) -%}
    merge into {{ production.relation_name }} as target
    using (
        {{ newest }}
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


{#-
  Stops the run where a production table, once it has taken in the newest month, has not the rows that history has for that
  date. After a late month there is no such date: customers whom only that one has are in no newer history.
-#}
{% macro require_what_history_says(production, as_of) %}
    {%- for row in run_query(not_what_history_says(production, as_of)).rows -%}
        {%- do refuse_to_build_upon(
            production, row.known ~ " rows, " ~ row.delivered ~ " of " ~ as_of,
            "history has " ~ row.rows_total ~ ", " ~ row.rows_delivered ~ " of that date"
        ) -%}
    {%- endfor -%}
{% endmacro %}


{#-
  Rows of a production table, all and those of the newest date, as they are and as they should be. Row grain: one row where
  they differ, none otherwise.
-#}
{% macro not_what_history_says(production, as_of) %}
with newest as (
    select as_of, rows_total, rows_delivered
    from {{ source('ops', 'history') }}
    where table_name = '{{ source_table(production) }}'
    order by as_of desc
    limit 1
),

actual as (
    select count(*) as known, count(*) filter (where observed_as_of = date '{{ as_of }}') as delivered
    from {{ production.relation_name }}
)

select actual.known, actual.delivered, newest.rows_total, newest.rows_delivered
from newest cross join actual
where newest.as_of = date '{{ as_of }}'
    and (actual.known, actual.delivered) is distinct from (newest.rows_total, newest.rows_delivered)
{% endmacro %}


{% macro refuse_to_build_upon(production, would_have, should_have) %}
    {{ exceptions.raise_compiler_error(
        production.name ~ " would have " ~ would_have ~ ", and " ~ should_have ~ ": is it what history says?"
        " `streamflow verify` tells, `streamflow dbt build --full-refresh` mends it. Nothing was published."
    ) }}
{% endmacro %}


{#- How many customers one delivery brings to production and for how many it changes a value. Row grain: one row. -#}
{% macro count_merge(production, as_of) %}
    {%- set key = contract_key(production) -%}
    select
        count(*) filter (where target.{{ key }} is null) as rows_inserted,
        count(*) filter (
            where target.observed_as_of <= delivered.observed_as_of
            and {{ rows_differ('delivered', 'target', contract_columns(['observed_as_of'], production)) }}
        ) as rows_updated
    from {{ ref(source_table(production) ~ '_snapshots') }} as delivered
    left join {{ production.relation_name }} as target on target.{{ key }} = delivered.{{ key }}
    where delivered.as_of = date '{{ as_of }}' and delivered.observed_as_of = delivered.as_of
{% endmacro %}


{#- Enters them in ops.history. -#}
{% macro enter_merge(production, as_of, counts) %}
    update {{ source('ops', 'history') }}
    set rows_inserted = {{ counts.rows_inserted }}, rows_updated = {{ counts.rows_updated }}
    where table_name = '{{ source_table(production) }}' and as_of = date '{{ as_of }}'
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


{% macro mark_merged(table_name, dates) %}
    update {{ source('ops', 'history') }} set merged_at = clock_timestamp()
    where table_name = '{{ table_name }}' and as_of = any(array['{{ dates | join("', '") }}']::date [])
{% endmacro %}


{#-
  Enters the months that have just become complete, by the model's own SELECT, and closes the attempts that brought them.
-#}
{% macro mark_published(sql, relation) %}
    with complete as (
        {{ sql }}
    ),

    entered as (
        insert into {{ relation }} (as_of, load_id, month, published_at)
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
