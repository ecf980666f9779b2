{#- A schema in a model's config is the schema's whole name, not a suffix: the tables' homes are part of the contract. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
