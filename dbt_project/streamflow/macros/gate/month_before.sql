{#-
  What a month delivered of a table, to select from; `as_of` is SQL. A column that was declared since, and that history gets with the next
  month, is null. Each column is named: the gate may add one before the query is run again for what it has found.
-#}
{% macro rows_delivered(table_name, as_of) -%}
    {%- set history = api.Relation.create(schema=target.schema, identifier=table_name ~ '_snapshots') -%}
    {%- set known = run_query("select attname from pg_attribute where attrelid = to_regclass('" ~ history ~ "')").columns[0].values() if execute else [] -%}
    (
        select
            {%- for column in streamflow.staged(table_name).columns.values() %}
            {{ 'null::' ~ column.data_type ~ ' as ' if column.name not in known }}{{ adapter.quote(column.name) }}{{ ',' if not loop.last }}
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


{#- How many values a column has, 0, 1 or 2 for more: counting them all would read every row, and a cluster's nodes would send them. -#}
{% macro up_to_two_values(column, relation) -%}
    case when exists (select 1 from {{ relation }} where {{ column }} is not null limit 1) then
        1 + exists (
            select 1 from {{ relation }} where {{ column }} <> (select {{ column }} from {{ relation }} where {{ column }} is not null limit 1)
            limit 1
        )::int
    else 0 end
{%- endmacro %}
