{#-
  The incremental strategy of production: rows are merged by their key, and only a row with a newer observed_as_of replaces another one,
  whatever the order in which months arrive. A rebuild makes the table exactly what history says, in place: keys, grants and views stay.
-#}
{% macro get_incremental_newest_wins_sql(arguments) %}
    {%- set target, delivered, key = arguments.target_relation, arguments.temp_relation, streamflow.quoted(arguments.unique_key) -%}
    {%- set plan = streamflow.production_plan(target.identifier, streamflow.begin_step(target) ~ ';') -%}
    {#- months may have changed since newly_delivered wrote its condition into the compiled model -#}
    {%- set said = ' /* newly_delivered */' -%}
    {%- if said in model.compiled_code and plan.reads ~ said not in model.compiled_code -%}
        {%- do exceptions.raise_compiler_error("months were published or removed while this waited: run the command again. Nothing was changed.") -%}
    {%- endif -%}
    {%- if plan.rebuild %}
    {%- set history = api.Relation.create(target.database, target.schema, target.identifier ~ '_snapshots') -%}
    {%- set read = run_query('select count(*) from ' ~ delivered).rows[0][0] -%}
    {%- set known = run_query('select count(*) from ' ~ history ~ ' where ' ~ plan.reads).rows[0][0] %}
    select ops.require_every_row('{{ target }}', {{ read }}, {{ known }});
    {%- endif %}
    {%- for day in fromjson(plan.uncounted or '[]') %}{# dbt makes JSON of an array #}
    {{ streamflow.count_before_merge(target, delivered, key, day) }};
    {%- if not (plan.rebuild and loop.last) %}
    {%- set is_newer = 'newest.observed_as_of ' ~ ('>=' if plan.rebuild else '>') ~ ' target.observed_as_of' %}
    {{ streamflow.merge_newest(target, '(select * from ' ~ delivered ~ ' where observed_as_of = ' ~ day ~ ')', key, is_newer) }};
    {%- endif %}
    {%- endfor %}
    {%- if plan.unmerged %}
    update ops.history set merged_at = now() where table_name = '{{ target.identifier }}' and as_of in ({{ plan.unmerged }});
    {%- endif %}
    {%- if plan.rebuild %}
    {%- set has_no_row = 'not exists (select 1 from ' ~ delivered ~ ' as delivered where ' ~ streamflow.same_row('delivered', 'target', key) ~ ')' %}
    {%- if plan.unmerged %}
    select ops.rebuild_below('{{ target }}', {{ streamflow.text_array(declared_tables()) }})
    where exists (select 1 from {{ target }} as target where {{ has_no_row }});
    {%- endif %}
    delete from {{ target }} as target where {{ has_no_row }};
    {%- set newest -%}
        (select distinct on ({{ key | join(', ') }}) * from {{ delivered }} order by {{ key | join(', ') }}, observed_as_of desc)
    {%- endset %}
    {{ streamflow.merge_newest(target, newest, key, streamflow.rows_differ('newest', 'target', model.columns.values(), by_digit=true)) }};
    {%- endif %}
    drop view {{ delivered }};
    {%- set takes_newest = plan.unmerged and plan.newest in plan.unmerged %}
    select ops.finish_merge('{{ target }}', {{ streamflow.as_json(model.constraints) }}, {{ plan.newest if takes_newest else 'null' }})
{% endmacro %}


{#- Inserts the rows of `newest` whose key is new, and replaces those of `target` for which the SQL condition `replaces` holds. -#}
{% macro merge_newest(target, newest, key, replaces) %}
    {%- set columns = streamflow.quoted(model.columns) -%}
    merge into {{ target }} as target
    using {{ newest }} as newest
    on {{ streamflow.same_row('target', 'newest', key) }}
    when matched and {{ replaces }} then update set
        {%- for column in columns if column not in key %}
        {{ column }} = newest.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    when not matched then insert ({{ columns | join(', ') }})
    values (newest.{{ columns | join(', newest.') }})
{% endmacro %}


{#-
  Enters in ops.history how many rows the delivery of a date inserts, and in how many rows it changes a value.
-#}
{% macro count_before_merge(target, delivered, key, day) %}
    create temporary table counted as  -- PostgreSQL plans parallel workers for this, and not within an update
    select
        count(*) as rows_read,
        count(*) filter (where target.{{ key[0] }} is null) as rows_inserted,
        count(*) filter (
            where target.observed_as_of <= delivered.observed_as_of
                and {{ streamflow.rows_differ('delivered', 'target', model.columns.values() | rejectattr('name', 'equalto', 'observed_as_of')) }}
        ) as rows_updated
    from {{ delivered }} as delivered
    left join {{ target }} as target on {{ streamflow.same_row('target', 'delivered', key) }}
    where delivered.observed_as_of = {{ day }};

    select ops.require_every_row('{{ target }}', counted.rows_read, history.rows_delivered)
    from counted
    cross join ops.history as history
    where history.table_name = '{{ target.identifier }}' and history.as_of = {{ day }};

    update ops.history as history
    set rows_inserted = counted.rows_inserted, rows_updated = counted.rows_updated
    from counted
    where history.table_name = '{{ target.identifier }}' and history.as_of = {{ day }};

    drop table counted
{% endmacro %}


{#- The SQL condition that two rows differ. Equal numbers with other digits, like 1.0 and 1.00, differ only with `by_digit`. -#}
{% macro rows_differ(left, right, columns, by_digit=false) -%}
    {%- set values = [] -%}
    {%- for column in columns -%}
        {%- do values.append(adapter.quote(column.name) ~ ('::text' if by_digit and column.data_type == 'numeric' else '')) -%}
    {%- endfor -%}
    row({{ left }}.{{ values | join(', ' ~ left ~ '.') }}) is distinct from row({{ right }}.{{ values | join(', ' ~ right ~ '.') }})
{%- endmacro %}
