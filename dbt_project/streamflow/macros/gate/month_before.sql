{#-
  What a month delivered of a table, to select from; `as_of` is SQL. A column that was declared since, and that history gets with the next
  month, is null.
-#}
{% macro rows_delivered(table_name, as_of) -%}
    {%- set history = api.Relation.create(schema=target.schema, identifier=table_name ~ '_snapshots') -%}
    {%- set known = run_query("select attname from pg_attribute where attrelid = '" ~ history ~ "'::regclass").columns[0].values() if execute else [] -%}
    (
        select
            *
            {%- for column in streamflow.staged(table_name).columns.values() if execute and column.name not in known %},
            null::{{ column.data_type }} as {{ adapter.quote(column.name) }}
            {%- endfor %}
        from {{ history }}
        where observed_as_of = as_of and as_of = {{ as_of }}
    )
{%- endmacro %}


{#- A table as its source declares it. -#}
{% macro staged(table_name) %}
    {{ return(graph.sources.values() | selectattr('source_name', 'equalto', 'staging') | selectattr('name', 'equalto', table_name) | first) }}
{% endmacro %}


{#-
  How rows of staging compare with those of the month before, as far as the ledger and a thousand of them tell: `as_of`, none without a
  month before; `is_same_file`; `may_be_same`, where all of them are there too; `hollow`, the columns with fewer than two values. `columns`
  are the declared ones, quoted.
-#}
{% macro looks_like_month_before(table_name, delivered) %}
    {%- set staged = streamflow.staged(table_name) -%}
    {%- set key, columns = streamflow.quoted(staged.config.meta.primary_key), streamflow.quoted(staged.columns) -%}
    {%- set query -%}
        with month_before as materialized (
            select * from {{ source('ops', 'month_before') }}
            where table_name = '{{ table_name }}'
        ),

        sample as (
            select * from {{ delivered }} limit 1000
        )

        select
            month_before.as_of::text as as_of,
            month_before.is_same_file,
            month_before.is_same_count and not month_before.is_same_file and (select count(*) from sample) = (
                select count(*)
                from sample
                inner join {{ streamflow.rows_delivered(table_name, '(select as_of from month_before)') }} as known on {{ streamflow.same_row('known', 'sample', key) }}
                where row(sample.{{ columns | join(', sample.') }}) is not distinct from row(known.{{ columns | join(', known.') }})
            ) as may_be_same,
            (
                select concat_ws(' '
                    {%- for name in staged.columns if adapter.quote(name) not in key -%}
                    , case when count(distinct {{ adapter.quote(name) }}) < 2 then '{{ name }}' end
                    {%- endfor -%}
                ) from sample
            ) as hollow
        from month_before
    {%- endset -%}
    {%- set found = run_query(query).rows if streamflow.ledger_is_there() else [] -%}
    {%- if not found %}{{ return({}) }}{% endif -%}
    {{ return({
        'as_of': found[0].as_of, 'is_same_file': found[0].is_same_file, 'may_be_same': found[0].may_be_same, 'columns': columns,
        'hollow': found[0].hollow.split() if not found[0].is_same_file else []
    }) }}
{% endmacro %}


{#- Of the values in these columns, whatever the order of the rows; numbers count by their value, not by their digits. -#}
{% macro checksum_of(columns) -%}
    sum(hashint8extended(hash_record_extended(row({{ columns | join(', ') }}), 0), 0))
{%- endmacro %}


{#- How many values a column has, 0, 1 or 2 for more: counting them all would sort them. -#}
{% macro up_to_two_values(column, relation) -%}
    select count(*) as found from (
        select distinct {{ adapter.quote(column) }} from {{ relation }} as relation where {{ adapter.quote(column) }} is not null limit 2
    ) as value
{%- endmacro %}
