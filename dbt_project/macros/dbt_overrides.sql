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


{#-
  dbt replaces a view by renaming and dropping it: readers would wait for that behind whoever reads it in a long transaction, and
  views and grants that others made on it would go. A view that says what it said stays as it is; dbt's own way is taken otherwise.
-#}
{% materialization view, adapter='postgres' %}
    {%- set existing, wanted = load_cached_relation(this), make_temp_relation(this) -%}
    {%- set is_same = false -%}
    {%- if existing and existing.is_view -%}
        {%- do run_query('create temporary view ' ~ wanted ~ ' as ' ~ sql) -%}
        {%- set is_same = run_query(
            "select pg_get_viewdef('" ~ wanted ~ "'::regclass) = pg_get_viewdef('" ~ existing ~ "'::regclass)"
        ).rows[0][0] -%}
        {%- do run_query('drop view ' ~ wanted) -%}
    {%- endif -%}
    {%- if not is_same or pre_hooks or post_hooks %}{{ return(dbt.materialization_view_default()) }}{% endif -%}
    {%- call statement('main', auto_begin=True) %}select 'as it was'{% endcall -%}
    {%- do apply_grants(existing, config.get('grants'), should_revoke=true) -%}
    {%- do persist_docs(existing, model) -%}
    {{ adapter.commit() }}
    {{ return({'relations': [existing]}) }}
{% endmaterialization %}
