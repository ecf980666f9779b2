{#-
  The incremental strategy of production: rows are merged by their key, and a row yields only to one of a newer observed_as_of, in
  whatever order months arrive. A rebuilt table becomes exactly what history says, in place: keys, grants and views on it stay.
-#}
{% macro get_incremental_newest_wins_sql(arguments) %}
    {%- set target, key = arguments.target_relation, adapter.quote(arguments.unique_key) -%}
    {%- set plan = production_plan(target.identifier) -%}
    {%- set newest -%}
        {%- if plan.months | length > 1 -%}
            (select distinct on ({{ key }}) * from {{ arguments.temp_relation }} order by {{ key }}, observed_as_of desc)
        {%- else -%}
            {{ arguments.temp_relation }}
        {%- endif -%}
    {%- endset -%}
    {%- set counts = run_query(count_changes(target, arguments.temp_relation, key, plan.unmerged)).rows if plan.unmerged else [] -%}
    {%- if plan.rebuild -%}
        {%- do run_query(
            "delete from " ~ target ~ " as target where not exists (select 1 from " ~ newest ~ " as newest where newest." ~ key
            ~ " = target." ~ key ~ ")"
        ) -%}
    {%- endif -%}
    {%- do run_query(merge_newest(target, newest, key, plan.rebuild)) -%}
    {%- do enforce_keys(target, key) -%}
    {%- if plan.unmerged | length == 1 and not plan.rebuild %}{% do require_what_history_says(target, plan.unmerged[0]) %}{% endif -%}
    {%- do hide_until_committed(target) -%}
    {{ enter_counts(target.identifier, plan.unmerged, counts) }}
{% endmacro %}


{% macro merge_newest(target, newest, key, rebuild) %}
    {%- set columns = quoted(model.columns) -%}
    merge into {{ target }} as target
    using {{ newest }} as newest
    on target.{{ key }} = newest.{{ key }}
    when matched and {% if rebuild %}{{ rows_differ('newest', 'target', columns, by_digit=true) }}
    {%- else %}newest.observed_as_of > target.observed_as_of{% endif %} then update set
        {%- for column in columns if column != key %}
        {{ column }} = newest.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    when not matched then insert ({{ columns | join(', ') }})
    values ({% for column in columns %}newest.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
{% endmacro %}


{#- How many rows each delivery brings to production, and for how many it changes a value. Row grain: as_of. -#}
{% macro count_changes(target, delivered, key, dates_to_count) %}
    {%- set values = quoted(model.columns) | reject('equalto', '"observed_as_of"') | list -%}
    select
        delivered.observed_as_of::text as as_of,
        count(*) filter (where target.{{ key }} is null) as rows_inserted,
        count(*) filter (
            where target.observed_as_of <= delivered.observed_as_of and {{ rows_differ('delivered', 'target', values) }}
        ) as rows_updated
    from {{ delivered }} as delivered
    left join {{ target }} as target on target.{{ key }} = delivered.{{ key }}
    where delivered.observed_as_of in ({{ dates(dates_to_count) }})
    group by delivered.observed_as_of
{% endmacro %}


{#- Enters in ops.history that production has taken deliveries in, and what that meant. -#}
{% macro enter_counts(table_name, unmerged, counts) %}
    update ops.history as history
    set merged_at = clock_timestamp(), rows_inserted = counted.rows_inserted, rows_updated = counted.rows_updated
    from (
        values (null::date, 0, 0)
        {%- for count in counts %}, (date '{{ count.as_of }}', {{ count.rows_inserted }}, {{ count.rows_updated }}){% endfor %}
    ) as counted (as_of, rows_inserted, rows_updated)
    where history.table_name = '{{ table_name }}' and history.as_of = counted.as_of and history.merged_at is null
{% endmacro %}


{#- Equal numbers are no difference, whatever their digits are; to `*<>`, which compares records by the byte, they are. -#}
{% macro rows_differ(left, right, columns, by_digit=false) -%}
    row({% for column in columns %}{{ left }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
    {{- '::record *<>' if by_digit else ' is distinct from' }} row(
    {%- for column in columns %}{{ right }}.{{ column }}{{ ', ' if not loop.last }}{% endfor %}){{ '::record' if by_digit }}
{%- endmacro %}


{#-
  The declared keys that a table lacks: all of them after its first rows, as building a key once is several times faster than keeping
  it row by row. Deleting a customer takes their rows in other tables along, so that a rebuild can take out whom history lacks.
-#}
{% macro enforce_keys(target, key) %}
    {%- set there = run_query(
        "select contype::text from pg_constraint where contype in ('p', 'f') and conrelid = '" ~ target ~ "'::regclass"
    ).columns[0].values() -%}
    {%- if 'p' not in there -%}
        {%- do run_query('alter table ' ~ target ~ ' add primary key (' ~ key ~ ')') -%}
        {%- do run_query('analyze ' ~ target) -%}
    {%- endif -%}
    {%- for constraint in model.constraints if constraint.type == 'foreign_key' and 'f' not in there -%}
        {%- do run_query(
            'alter table ' ~ target ~ ' add foreign key (' ~ quoted(constraint.columns) | join(', ') ~ ') references '
            ~ constraint.to ~ ' (' ~ quoted(constraint.to_columns) | join(', ') ~ ') on delete cascade'
        ) -%}
    {%- endfor -%}
{% endmacro %}


{#-
  Ends the run where production, with the newest month taken in, has not as many rows as history says, of all dates and of this one.
  After a late month there is nothing to compare: customers whom only that one has are in no newer history.
-#}
{% macro require_what_history_says(target, as_of) %}
    {%- set query -%}
        with newest as (
            select as_of, rows_total, rows_delivered
            from {{ source('ops', 'history') }}
            where table_name = '{{ target.identifier }}'
            order by as_of desc
            limit 1
        ),

        actual as (
            select count(*) as known, count(*) filter (where observed_as_of = date '{{ as_of }}') as delivered
            from {{ target }}
        )

        select actual.known, actual.delivered, newest.rows_total, newest.rows_delivered
        from newest cross join actual
        where newest.as_of = date '{{ as_of }}'
            and (actual.known, actual.delivered) is distinct from (newest.rows_total, newest.rows_delivered)
    {%- endset -%}
    {%- for row in run_query(query).rows -%}
        {{ exceptions.raise_compiler_error(
            target.identifier ~ " would have " ~ row.known ~ " rows, " ~ row.delivered ~ " of " ~ as_of ~ ", and history has "
            ~ row.rows_total ~ ", " ~ row.rows_delivered ~ " of that date: is it what history says? `streamflow verify` tells,"
            ~ " `streamflow dbt build --full-refresh` mends it. The month is not published."
        ) }}
    {%- endfor -%}
{% endmacro %}
