{#-
  Plain Jinja on purpose: the loader renders this macro too, before dbt is up.
  columns: list of {name, data_type} as declared. Row grain: one row per line of the file; nothing is checked but types, and that a
  mean of the numbers, which is of double precision, has no chance to overflow (loader/landing/diagnosis.sql says which do not land).
  The next month makes the table anew, so vacuuming it would be in vain.
-#}
{% macro staging_ddl(table_name, columns) %}
create unlogged table staging."{{ table_name }}" (
    {%- for column in columns %}
    "{{ column.name }}" {{ column.data_type }}
        {%- if column.data_type == 'numeric' %} constraint "{{ column.name }}_is_finite" check ("{{ column.name }}" > -1e100 and "{{ column.name }}" < 1e100 and scale("{{ column.name }}") <= 300)
        {%- elif column.data_type == 'date' %} constraint "{{ column.name }}_is_finite" check (isfinite("{{ column.name }}"))
        {%- endif %},
    {%- endfor %}
    as_of date not null
) with (autovacuum_enabled = off);
{% endmacro %}
