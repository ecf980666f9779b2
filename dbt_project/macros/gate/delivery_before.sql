{#-
  The delivery that staging's rows of a table are compared with: that of the newest complete month before; none where there is no such
  month in the database. `rows` are its rows as SQL, `columns` those that both have, quoted, and without the key `values`.
-#}
{% macro delivery_before(table_name) %}
    {%- set history = api.Relation.create(database=target.database, schema=target.schema, identifier=table_name ~ '_snapshots') -%}
    {%- set found = run_query(delivery_before_sql(table_name, history)).rows if ledger_is_there() else [] -%}
    {%- if not found or found[0].is_archived %}{{ return(none) }}{% endif -%}
    {%- set before = {'as_of': found[0].as_of, 'is_same_file': found[0].is_same_file, 'is_same_count': found[0].is_same_count} -%}
    {%- set day = "date '" ~ before.as_of ~ "'" -%}
    {%- do before.update({
        'rows': "(select * from " ~ history ~ " where as_of = " ~ day ~ " and observed_as_of = " ~ day ~ ") as month_before",
        'columns': [], 'values': []
    }) -%}
    {%- for staged in graph.sources.values() if staged.source_name == 'staging' and staged.name == table_name -%}
        {%- do before.update({'key': quoted(staged.config.meta.primary_key)}) -%}
        {%- for column in staged.columns.values() if column.name in (found[0].column_names or '').split(' ') -%}
            {%- do before.columns.append(adapter.quote(column.name)) -%}
            {%- if adapter.quote(column.name) not in before.key %}{% do before['values'].append(column.name) %}{% endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(before) }}
{% endmacro %}


{% macro delivery_before_sql(table_name, history) %}
    select
        before.as_of::text as as_of,
        archived.as_of is not null as is_archived,
        coalesce(built_from.sha256 = landed.sha256, false) as is_same_file,
        before.rows_delivered = staged.row_count as is_same_count,
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


{#-
  What a thousand rows settle without reading the others. Row grain: one row. `different`: how many are not as in the month before; then
  for each column how many values they have.
-#}
{% macro sampled_sql(delivered, before) %}
    select
        count(*) filter (
            where row(sample.{{ before.columns | join(', sample.') }}) is distinct from row(month_before.{{ before.columns | join(', month_before.') }})
        ) as different
        {%- for column in before['values'] %},
        count(distinct sample.{{ adapter.quote(column) }})
        {%- endfor %}
    from (select * from {{ delivered }} limit 1000) as sample
    left join {{ before.rows }}
        on {% for key in before.key %}month_before.{{ key }} = sample.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
{% endmacro %}
