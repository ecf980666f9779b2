{#-
  How rows of staging compare with those that the newest complete month before delivered, as far as the ledger and a thousand rows tell.
  `as_of` is that month's date; none where it is not in the database. `rows` are its rows as SQL, and `columns` those that both have.
  `is_stale`: whether all rows are the same, as far as is known: yes, no or perhaps. `hollow`: the columns that may have a single value.
-#}
{% macro delivery_before(table_name, delivered) %}
    {%- set history = api.Relation.create(database=target.database, schema=target.schema, identifier=table_name ~ '_snapshots') -%}
    {%- set before = {'as_of': none, 'is_stale': 'no', 'columns': [], 'hollow': []} -%}
    {%- set found = run_query(streamflow.delivery_before_sql(table_name, history)).rows if streamflow.ledger_is_there() else [] -%}
    {%- if found and not found[0].is_archived -%}
        {%- set day, there = "date '" ~ found[0].as_of ~ "'", (found[0].column_names or '').split(' ') -%}
        {%- do before.update({
            'as_of': found[0].as_of,
            'rows': '(select * from ' ~ history ~ ' where as_of = ' ~ day ~ ' and observed_as_of = ' ~ day ~ ') as month_before'
        }) -%}
        {%- for staged in graph.sources.values() if staged.source_name == 'staging' and staged.name == table_name -%}
            {%- set key = streamflow.quoted(staged.config.meta.primary_key) -%}
            {%- do before.columns.extend(streamflow.quoted(staged.columns.values() | map(attribute='name') | select('in', there))) -%}
            {%- if found[0].is_same_file -%}
                {%- do before.update({'is_stale': 'yes'}) -%}
            {%- else -%}
                {%- set sample = '(select * from ' ~ delivered ~ ' limit 1000) as sample' -%}
                {%- if found[0].is_same_count and run_query(streamflow.known_rows_sql(sample, before, key)).rows[0][0] == [found[0].row_count, 1000] | min -%}
                    {%- do before.update({'is_stale': 'perhaps'}) -%}
                {%- endif -%}
                {%- set values = run_query('select ' ~ streamflow.distinct_values(before.columns) ~ ' from ' ~ sample).rows[0] -%}
                {%- for column in before.columns if column not in key and values[before.columns.index(column)] < 2 -%}
                    {%- do before.hollow.append(column) -%}
                {%- endfor -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(before) }}
{% endmacro %}


{% macro delivery_before_sql(table_name, history) %}
    select
        before.as_of::text as as_of,
        archived.as_of is not null as is_archived,
        coalesce(built_from.sha256 = landed.sha256, false) as is_same_file,
        before.rows_delivered = staged.row_count as is_same_count,
        staged.row_count,
        (
            select string_agg(there.attname, ' ')
            from pg_attribute as there
            inner join pg_attribute as staged_too on there.attname = staged_too.attname
            where there.attrelid = to_regclass('{{ history }}') and staged_too.attrelid = to_regclass('staging.{{ table_name }}')
                and there.attnum > 0 and not there.attisdropped
        ) as column_names
    from {{ source('ops', 'staged') }} as staged
    inner join {{ source('ops', 'standing_history') }} as before on before.table_name = staged.table_name and before.as_of < staged.as_of
    left join {{ source('ops', 'landed_files') }} as landed
        on landed.load_id = staged.load_id and landed.table_name = staged.table_name
    left join {{ source('ops', 'landed_files') }} as built_from
        on built_from.load_id = before.load_id and built_from.table_name = before.table_name
    left join {{ source('ops', 'archived') }} as archived on archived.table_name = before.table_name and archived.as_of = before.as_of
    where staged.table_name = '{{ table_name }}'
    order by before.as_of desc
    limit 1
{% endmacro %}


{#- Row grain: one row. How many rows of the sample the month before has too. -#}
{% macro known_rows_sql(sample, before, key) %}
    select count(*)
    from {{ sample }}
    inner join {{ before.rows }}
        on {% for part in key %}month_before.{{ part }} = sample.{{ part }}{{ ' and ' if not loop.last }}{% endfor %}
    where row(sample.{{ before.columns | join(', sample.') }}) is not distinct from row(month_before.{{ before.columns | join(', month_before.') }})
{% endmacro %}


{#- Of the values in these columns, whatever the order of the rows; numbers count by their value, not by their digits. -#}
{% macro checksum_of(columns) -%}
    sum(hashint8extended(hash_record_extended(row({{ columns | join(', ') }}), 0), 0))
{%- endmacro %}


{#- How many each of these columns has. -#}
{% macro distinct_values(columns) -%}
    count(distinct {{ columns | join('), count(distinct ') }})
{%- endmacro %}
