{#- The table has the columns that its declaration names, and as_of, and no other. -#}
{% test columns_match_declaration(model) %}
    {%- set declared = ['as_of'] -%}
    {%- if execute -%}
        {%- set source_id = 'source.' ~ project_name ~ '.staging.' ~ table_in(model) -%}
        {%- for column in graph.sources[source_id].columns.values() %}{% do declared.append(column.name) %}{% endfor -%}
    {%- endif -%}
    {{ dbt_expectations.test_expect_table_columns_to_match_set(model, declared, transform='lower') }}
{% endtest %}
