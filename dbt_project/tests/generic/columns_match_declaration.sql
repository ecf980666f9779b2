{#- The table has the columns that its declaration names, and as_of, and no other. Row grain: column that is amiss. -#}
{% test columns_match_declaration(model) %}
with declared as (
    select column_name from unnest(array['{{ staged_columns(table_in(model)) | join("', '") }}']) as names (column_name)
),

actual as (
    select columns.column_name::text as column_name
    from information_schema.columns as columns
    where columns.table_schema = 'staging' and columns.table_name = '{{ table_in(model) }}'
)

select coalesce(declared.column_name, actual.column_name) as column_name
from declared
full join actual on declared.column_name = actual.column_name
where declared.column_name is null or actual.column_name is null
{% endtest %}
