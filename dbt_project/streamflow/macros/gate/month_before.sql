{#-
  A subquery of the rows that a month delivered to a table; `as_of` is SQL. A declared column that history does not have yet is null.
  The columns are listed by name because the gate may add one before finding_of runs the audit's query again.
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


{#- A staging table as its source declares it; one without columns while dbt is still parsing the project. -#}
{% macro staged(table_name) %}
    {%- for table in (graph.sources.values() if execute else [])
        if (table.package_name, table.source_name, table.name) == (project_name, 'staging', table_name) -%}
        {{ return(table) }}
    {%- endfor -%}
    {{ return({'columns': {}, 'config': {'meta': {'primary_key': []}}}) }}
{% endmacro %}


{#- How many distinct values a column has: 0, 1, or 2 for more. Counting all would read every row, and send a cluster's to one node. -#}
{% macro up_to_two_values(column, relation) -%}
    case when exists (select 1 from {{ relation }} where {{ column }} is not null limit 1) then
        1 + exists (
            select 1 from {{ relation }} where {{ column }} <> (select {{ column }} from {{ relation }} where {{ column }} is not null limit 1)
            limit 1
        )::int
    else 0 end
{%- endmacro %}
