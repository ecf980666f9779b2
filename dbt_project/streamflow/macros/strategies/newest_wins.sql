{#-
  The incremental strategy of production: rows are merged by their key, and a row yields only to one of a newer observed_as_of, in
  whatever order months arrive. A rebuilt table becomes exactly what history says, in place: keys, grants and views on it stay.
-#}
{% macro get_incremental_newest_wins_sql(arguments) %}
    {%- set target, delivered, key = arguments.target_relation, arguments.temp_relation, streamflow.quoted(arguments.unique_key) -%}
    {%- set plan = streamflow.production_plan(target.identifier) -%}
    {%- set merge_counts = plan.unmerged == plan.months and plan.months | length == 1 and streamflow.merge_tells_old_rows() -%}
    {%- if plan.unmerged and not merge_counts -%}
        {%- set counted = streamflow.counted_before_merge(target, delivered, key, plan.unmerged) -%}
        {%- do run_query('with counted as (' ~ counted ~ ') ' ~ streamflow.enter_counts(target)) -%}
    {%- endif -%}
    {%- if plan.rebuild -%}
        {%- do run_query(
            "delete from " ~ target ~ " as target where not exists (select 1 from " ~ delivered ~ " as delivered where "
            ~ streamflow.same_row('delivered', 'target', key) ~ ")"
        ) -%}
    {%- endif -%}
    {%- set newest -%}
        {%- if plan.months | length > 1 -%}
            (select distinct on ({{ key | join(', ') }}) * from {{ delivered }} order by {{ key | join(', ') }}, observed_as_of desc)
        {%- else -%}
            {{ delivered }}
        {%- endif -%}
    {%- endset -%}
    {%- set merge = streamflow.merge_newest(target, newest, key, plan.rebuild) -%}
    {{ streamflow.counted_by_merge(target, merge, plan.months[0]) if merge_counts else merge }}
{% endmacro %}


{#-
  Whether a merge can tell what its rows were before, which spares a second join of all rows: PostgreSQL 18 can, a cluster cannot.
  Asked once a run; `graph` is what all models of a run share.
-#}
{% macro merge_tells_old_rows() %}
    {%- if 'merge_tells_old_rows' not in graph -%}
        {%- set is_new_enough = run_query("select current_setting('server_version_num')::int >= 180000").rows[0][0] -%}
        {%- do graph.update({'merge_tells_old_rows': is_new_enough and not streamflow.is_cluster()}) -%}
    {%- endif -%}
    {{ return(graph.merge_tells_old_rows) }}
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
    values ({% for column in columns %}newest.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
{% endmacro %}


{#-
  Row grain: one row per date of `unmerged`. How many rows its delivery brings to production, and of how many customers it changes a
  value.
-#}
{% macro counted_before_merge(target, delivered, key, unmerged) %}
    select
        delivered.observed_as_of,
        count(*) filter (where target.{{ key[0] }} is null) as rows_inserted,
        count(*) filter (
            where target.observed_as_of <= delivered.observed_as_of
                and {{ streamflow.rows_differ('delivered', 'target', streamflow.delivered_columns()) }}
        ) as rows_updated
    from {{ delivered }} as delivered
    left join {{ target }} as target on {{ streamflow.same_row('target', 'delivered', key) }}
    where delivered.observed_as_of in ({{ streamflow.dates(unmerged) }})
    group by delivered.observed_as_of
{% endmacro %}


{#- The merge of one date's delivery, which enters the same counts. -#}
{% macro counted_by_merge(target, merge, as_of) %}
    with merged as (
        {{ merge }}
        returning
            merge_action() = 'INSERT' as is_inserted,
            {{ streamflow.rows_differ('old', 'new', streamflow.delivered_columns()) }} as is_changed
    ),

    counted as (
        select
            {{ streamflow.dates([as_of]) }} as observed_as_of,
            count(*) filter (where is_inserted) as rows_inserted,
            count(*) filter (where is_changed and not is_inserted) as rows_updated
        from merged
    )

    {{ streamflow.enter_counts(target) }}
{% endmacro %}


{% macro delivered_columns() %}
    {{ return(model.columns.values() | rejectattr('name', 'equalto', 'observed_as_of') | list) }}
{% endmacro %}


{#- Enters in ops.history, from `counted`, that production takes deliveries in, and what they bring. -#}
{% macro enter_counts(target) %}
    update ops.history as history
    set merged_at = now(), rows_inserted = counted.rows_inserted, rows_updated = counted.rows_updated
    from counted
    where history.table_name = '{{ target.identifier }}' and history.as_of = counted.observed_as_of and history.merged_at is null
{% endmacro %}


{#- Equal numbers are no difference, whatever their digits are, unless `by_digit`. -#}
{% macro rows_differ(left, right, columns, by_digit=false) -%}
    {%- set values = [] -%}
    {%- for column in columns -%}
        {%- do values.append(adapter.quote(column.name) ~ ('::text' if by_digit and column.data_type == 'numeric' else '')) -%}
    {%- endfor -%}
    row({% for value in values %}{{ left }}.{{ value }}{{ ', ' if not loop.last }}{% endfor %})
    is distinct from row({% for value in values %}{{ right }}.{{ value }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}


{#-
  Post-hook of production: adds the keys that a new table lacks, and ends the run where the table, with the newest month taken in, has
  not as many rows as history says. After a late month there is nothing to compare: customers whom only that one has are in no newer
  history.
-#}
{% macro finish_merge() %}
    {%- if execute -%}
        {%- set found = run_query(streamflow.keys_and_counts_sql()).rows[0] -%}
        {%- do streamflow.enforce_keys(found['keys'] or []) -%}
        {%- if found.is_wrong and not flags.FULL_REFRESH -%}
            {{ exceptions.raise_compiler_error(
                this.identifier ~ " would have " ~ found.known ~ " rows, " ~ found.delivered ~ " of " ~ found.as_of ~ ", and history has "
                ~ found.rows_total ~ ", " ~ found.rows_delivered ~ " of that date: is it what history says? `streamflow verify` tells,"
                ~ " `streamflow dbt build --full-refresh` mends it. The month is not published."
            ) }}
        {%- endif -%}
        {%- do streamflow.hide_until_committed(this) -%}
    {%- endif -%}
{% endmacro %}


{#-
  Row grain: one row. keys: the kinds of key that production has; the rest compares it with the newest month's history, where this
  transaction took that month in, it alone, and for the first time.
-#}
{% macro keys_and_counts_sql() %}
    with taken_in as (
        select table_name, max(as_of) as as_of
        from {{ source('ops', 'history') }}
        where table_name = '{{ this.identifier }}' and merged_at >= now()
        group by table_name
        having count(*) = 1
    ),

    newest as (
        select history.as_of, history.rows_total, history.rows_delivered
        from {{ source('ops', 'history') }} as history
        inner join taken_in using (table_name, as_of)
        where history.as_of = (select max(latest.as_of) from {{ source('ops', 'history') }} as latest where latest.table_name = '{{ this.identifier }}')
            and (history.table_name, history.as_of) not in (select table_name, as_of from {{ source('ops', 'restatements') }})
    ),

    actual as (
        select count(*) as known, count(*) filter (where production.observed_as_of = newest.as_of) as delivered
        from {{ this }} as production
        cross join newest
    )

    select
        (
            select array_agg(contype::text) from pg_constraint
            where contype in ('p', 'f') and conrelid = '{{ this }}'::regclass
        ) as keys,
        newest.*, actual.*,
        (actual.known, actual.delivered) is distinct from (newest.rows_total, newest.rows_delivered) and newest.as_of is not null as is_wrong
    from actual
    left join newest on true
{% endmacro %}


{#-
  The declared keys that a table lacks: all of them after its first rows, as building a key once is several times faster than keeping
  it row by row. Deleting a customer takes their rows in other tables along, so that a rebuild can take out whom history lacks; an
  index finds these where the primary key does not.
-#}
{% macro enforce_keys(kinds) %}
    {%- set unique_key = model.config.unique_key -%}
    {%- if 'p' not in kinds -%}
        {%- do run_query('alter table ' ~ this ~ ' add primary key (' ~ streamflow.quoted(unique_key) | join(', ') ~ ')') -%}
        {%- do run_query('analyze ' ~ this) -%}
    {%- endif -%}
    {%- for constraint in model.constraints if constraint.type == 'foreign_key' and 'f' not in kinds and streamflow.can_be_enforced(constraint, unique_key) -%}
        {%- set columns = streamflow.quoted(constraint.columns) -%}
        {%- if columns != streamflow.quoted(unique_key)[:columns | length] -%}
            {%- do run_query('create index on ' ~ this ~ ' (' ~ columns | join(', ') ~ ')') -%}
        {%- endif -%}
        {%- do run_query(
            'alter table ' ~ this ~ ' add foreign key (' ~ columns | join(', ') ~ ') references '
            ~ constraint.to ~ ' (' ~ streamflow.quoted(constraint.to_columns) | join(', ') ~ ') on delete cascade'
        ) -%}
    {%- endfor -%}
{% endmacro %}
