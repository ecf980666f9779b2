{#-
  The incremental strategy of production: rows are merged by their key, and a row yields only to one of a newer observed_as_of, in
  whatever order months arrive. A rebuilt table becomes exactly what history says, in place: keys, grants and views on it stay.
-#}
{% macro get_incremental_newest_wins_sql(arguments) %}
    {%- set target, delivered, key = arguments.target_relation, arguments.temp_relation, streamflow.quoted(arguments.unique_key) -%}
    {%- set plan = streamflow.production_plan(target.identifier, streamflow.begin_step(target) ~ ';') -%}
    {%- set merge_counts = plan.unmerged == plan.months and ',' not in plan.months and plan.merge_tells_old_rows -%}
    {%- if plan.unmerged and not merge_counts -%}
        {{ streamflow.count_before_merge(target, delivered, key, plan.unmerged) }};
    {%- endif -%}
    {%- if plan.rebuild %}
    delete from {{ target }} as target
    where not exists (select 1 from {{ delivered }} as delivered where {{ streamflow.same_row('delivered', 'target', key) }});
    {%- endif %}
    {%- set newest -%}
        {%- if ',' in plan.months -%}
            (select distinct on ({{ key | join(', ') }}) * from {{ delivered }} order by {{ key | join(', ') }}, observed_as_of desc)
        {%- else -%}
            {{ delivered }}
        {%- endif -%}
    {%- endset -%}
    {%- set merge = streamflow.merge_newest(target, newest, key, plan.rebuild) -%}
    {{ streamflow.counted_by_merge(target, merge, plan.months) if merge_counts else merge }};
    drop view {{ delivered }};
    select ops.finish_merge('{{ target }}', {{ streamflow.as_json(model.constraints) }}, {{ flags.FULL_REFRESH }})
{% endmacro %}


{% macro merge_newest(target, newest, key, rebuild) %}
    {%- set columns = streamflow.quoted(model.columns) -%}
    merge into {{ target }} as target
    using {{ newest }} as newest
    on {{ streamflow.same_row('target', 'newest', key) }}
    when matched and {% if rebuild %}{{ streamflow.rows_differ('newest', 'target', model.columns.values(), by_digit=true) }}
    {%- else %}newest.observed_as_of > target.observed_as_of{% endif %} then update set
        {%- for column in columns if column not in key %}
        {{ column }} = newest.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    when not matched then insert ({{ columns | join(', ') }})
    values (newest.{{ columns | join(', newest.') }})
{% endmacro %}


{#-
  Enters how many rows the delivery of each date of `unmerged` brings to production, and of how many customers it changes a value.
-#}
{% macro count_before_merge(target, delivered, key, unmerged) %}
    with counted as (
        select
            delivered.observed_as_of,
            count(*) filter (where target.{{ key[0] }} is null) as rows_inserted,
            count(*) filter (
                where target.observed_as_of <= delivered.observed_as_of
                    and {{ streamflow.rows_differ('delivered', 'target', streamflow.delivered_columns()) }}
            ) as rows_updated
        from {{ delivered }} as delivered
        left join {{ target }} as target on {{ streamflow.same_row('target', 'delivered', key) }}
        where delivered.observed_as_of in ({{ unmerged }})
        group by delivered.observed_as_of
    )

    {{ streamflow.enter_counts(target) }}
{% endmacro %}


{#- The merge of one date's delivery, which enters the same counts; PostgreSQL 18 tells what its rows were before. -#}
{% macro counted_by_merge(target, merge, day) %}
    with merged as (
        {{ merge }}
        returning
            merge_action() = 'INSERT' as is_inserted,
            {{ streamflow.rows_differ('old', 'new', streamflow.delivered_columns()) }} as is_changed
    ),

    counted as (
        select
            {{ day }} as observed_as_of,
            count(*) filter (where is_inserted) as rows_inserted,
            count(*) filter (where is_changed and not is_inserted) as rows_updated
        from merged
    )

    {{ streamflow.enter_counts(target) }}
{% endmacro %}


{% macro delivered_columns() %}
    {{ return(model.columns.values() | rejectattr('name', 'equalto', 'observed_as_of') | list) }}
{% endmacro %}


{#- Enters in ops.history, from `counted`, that production takes deliveries in, and what they bring the first time. -#}
{% macro enter_counts(target) %}
    update ops.history as history
    set
        merged_at = now(),
        rows_inserted = coalesce(history.rows_inserted, counted.rows_inserted),
        rows_updated = coalesce(history.rows_updated, counted.rows_updated)
    from counted
    where history.table_name = '{{ target.identifier }}' and history.as_of = counted.observed_as_of and history.merged_at is null
{% endmacro %}


{#- Equal numbers are no difference, whatever their digits are, unless `by_digit`. -#}
{% macro rows_differ(left, right, columns, by_digit=false) -%}
    {%- set values = [] -%}
    {%- for column in columns -%}
        {%- do values.append(adapter.quote(column.name) ~ ('::text' if by_digit and column.data_type == 'numeric' else '')) -%}
    {%- endfor -%}
    row({{ left }}.{{ values | join(', ' ~ left ~ '.') }}) is distinct from row({{ right }}.{{ values | join(', ' ~ right ~ '.') }})
{%- endmacro %}
