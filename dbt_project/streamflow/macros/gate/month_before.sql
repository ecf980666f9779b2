{#-
  What a month delivered of a table, to select from; `as_of` is SQL. A column that was declared since, and that history gets with the next
  month, is null.
-#}
{% macro rows_delivered(table_name, as_of) -%}
    {%- set history = api.Relation.create(schema=target.schema, identifier=table_name ~ '_snapshots') -%}
    {%- set known = run_query("select attname from pg_attribute where attrelid = to_regclass('" ~ history ~ "')").columns[0].values() if execute else [] -%}
    (
        select
            *
            {%- for column in streamflow.staged(table_name).columns.values() if column.name not in known %},
            null::{{ column.data_type }} as {{ adapter.quote(column.name) }}
            {%- endfor %}
        from {{ history }}
        where observed_as_of = as_of and as_of = {{ as_of }}
    )
{%- endmacro %}


{#- A table as its source declares it; an empty one before the project is read whole. -#}
{% macro staged(table_name) %}
    {%- for table in (graph.sources.values() if execute else []) if (table.source_name, table.name) == ('staging', table_name) -%}
        {{ return(table) }}
    {%- endfor -%}
    {{ return({'columns': {}, 'config': {'meta': {'primary_key': []}}}) }}
{% endmacro %}


{#- How many values a column has, 0, 1 or 2 for more: counting them all would read every row. -#}
{% macro up_to_two_values(column, relation) -%}
    case when exists (select 1 from {{ relation }} where {{ column }} is not null) then
        1 + exists (
            select 1 from {{ relation }} where {{ column }} <> (select {{ column }} from {{ relation }} where {{ column }} is not null limit 1)
        )::int
    else 0 end
{%- endmacro %}
