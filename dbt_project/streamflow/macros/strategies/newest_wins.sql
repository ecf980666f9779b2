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
    {{ streamflow.merge_delivery(target, delivered, key, day, plan) }};
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
  Merges the delivery of a date. First come the rows that are new or differ in a value: ops.history gets their numbers. Then the others get
  the date, and the digits of equal numbers, like 1.0 and 1.00; a rebuild does this in its own last step.
-#}
{% macro merge_delivery(target, delivered, key, day, plan) %}
    {%- set values = model.columns.values() | rejectattr('name', 'equalto', 'observed_as_of') | list -%}
    {%- set numbers = values | selectattr('data_type', 'equalto', 'numeric') | map(attribute='name') | list -%}
    {%- set rows = '(select * from ' ~ delivered ~ ' where observed_as_of = ' ~ day ~ ')' -%}
    {%- set month = "(table_name, as_of) = ('" ~ target.identifier ~ "', " ~ day ~ ')' -%}
    {%- set is_newer = 'newest.observed_as_of ' ~ ('>=' if plan.rebuild else '>') ~ ' target.observed_as_of' -%}
    do $$
    declare
        delivered bigint := (select rows_delivered from ops.history where {{ month }});
        known bigint := (select count(*) from {{ target }});
        merged bigint;
        inserted bigint;
    begin
        perform ops.require_every_row('{{ target }}', (select count(*) from {{ rows }} as newest), delivered);
        {{ streamflow.merge_newest(target, rows, key, is_newer ~ ' and ' ~ streamflow.rows_differ('newest', 'target', values)) }};
        get diagnostics merged = row_count;
        inserted := (select count(*) from {{ target }}) - known;
        update ops.history set rows_inserted = inserted, rows_updated = merged - inserted where {{ month }};
        {%- if not plan.rebuild %}
        if merged = delivered then
            return;
        end if;

        update {{ target }} as target set
            {%- for column in ['observed_as_of'] + streamflow.quoted(numbers) %}
            {{ column }} = {{ day if column == 'observed_as_of' else 'newest.' ~ column }}{{ ',' if not loop.last }}
            {%- endfor %}
        {%- if plan.is_next and not numbers %}
        {#- this reads fewer rows: history of this date has everybody, so those who are not carried forward were delivered #}
        where observed_as_of < {{ day }} and not exists (
            select from {{ api.Relation.create(target.database, target.schema, target.identifier ~ '_snapshots') }} as carried
            where as_of = {{ day }} and observed_as_of < {{ day }} and {{ streamflow.same_row('carried', 'target', key) }}
        );
        {%- else %}
        from {{ rows }} as newest
        where target.observed_as_of < {{ day }} and {{ streamflow.same_row('newest', 'target', key) }};
        {%- endif %}
        {%- endif %}
    end
    $$
{% endmacro %}


{#- The SQL condition that two rows differ. Equal numbers with other digits, like 1.0 and 1.00, differ only with `by_digit`. -#}
{% macro rows_differ(left, right, columns, by_digit=false) -%}
    {%- set values = [] -%}
    {%- for column in columns -%}
        {%- do values.append(adapter.quote(column.name) ~ ('::text' if by_digit and column.data_type == 'numeric' else '')) -%}
    {%- endfor -%}
    row({{ left }}.{{ values | join(', ' ~ left ~ '.') }}) is distinct from row({{ right }}.{{ values | join(', ' ~ right ~ '.') }})
{%- endmacro %}
