{#- What this project changes of dbt itself, by dbt's documented ways. -#}

{#- A schema in a model's config is the schema's whole name, not a suffix: the tables' homes are part of the contract. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}


{#- `dbt clone` asks this before it replaces a table by a copy or a view of another: history would be gone. -#}
{% macro can_clone_table() %}
    {{ exceptions.raise_compiler_error("`dbt clone` is not for this project: it would replace history and production") }}
{% endmacro %}


{#- dbt warns that a numeric without a precision rounds. In PostgreSQL it keeps every digit. -#}
{% macro postgres__get_empty_schema_sql(columns) %}
    select
    {%- for column in columns.values() %}
        cast(null as {{ column.data_type }}) as {{ adapter.quote(column.name) }}{{ ',' if not loop.last }}
    {%- endfor %}
{% endmacro %}
