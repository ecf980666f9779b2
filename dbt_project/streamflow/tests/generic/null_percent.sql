{#- The percentage of missing values per column, rounded up. Row grain: column. -#}
{% test null_percent(model, columns) %}
with counted as (
    select
        count(*) as row_count,
        array[{% for column in columns %}count({{ adapter.quote(column) }}){{ ', ' if not loop.last }}{% endfor %}] as present
    from {{ model }}
)

select
    names.column_name,
    ceil(100.0 * (counted.row_count - counted.present[names.position]) / nullif(counted.row_count, 0))::int as null_percent
from counted
cross join unnest(array['{{ columns | join("', '") }}']) with ordinality as names (column_name, position)
{% endtest %}
