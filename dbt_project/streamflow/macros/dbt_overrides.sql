{#- What this project changes of dbt itself, by dbt's documented ways. -#}

{#- A schema in a model's config is the schema's whole name, not a suffix: the tables' homes are part of the contract. -#}
{% macro default__generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}


{#- `dbt clone` asks this before it replaces a table by a copy or a view of another: history would be gone. -#}
{% macro default__can_clone_table() %}
    {{ exceptions.raise_compiler_error("`dbt clone` is not for this project: it would replace history and production") }}
{% endmacro %}


{#- dbt warns that a numeric without a precision rounds. In PostgreSQL it keeps every digit. -#}
{% macro postgres__get_empty_schema_sql(columns) %}
    {%- if columns.values() | rejectattr('data_type') | list %}{{ return(dbt.default__get_empty_schema_sql(columns)) }}{% endif -%}
    select
    {%- for column in columns.values() %}
        {%- set is_written_as_is = column.name != column.name | lower and not column.quote %}
        cast(null as {{ column.data_type }}) as {{ column.name if is_written_as_is else adapter.quote(column.name) }}{{ ',' if not loop.last }}
    {%- endfor %}
{% endmacro %}


{#- An audit that is waived for the load in staging warns where it would fail: dbt reports that itself, in whatever way it is run. -#}
{% macro postgres__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) %}
    {%- set asked = dbt.default__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) -%}
    {%- if model.config.severity | lower != 'error' or not streamflow.audited_table(model) %}{{ return(asked) }}{% endif -%}
    select
        audit.failures,
        audit.should_warn or audit.should_error as should_warn,
        audit.should_error and waivers.load_id is null as should_error
    from (
        {{ asked }}
    ) as audit
    left join ops.waivers as waivers
        on waivers.audit_name = {{ dbt.string_literal(dbt.escape_single_quotes(model.name)) }} and waivers.load_id = (select max(staged.load_id) from ops.staged as staged)
{% endmacro %}


{#-
  What a strategy of this project reads is a view: dbt's temporary table would write all rows once more, without statistics, and pull
  those of a cluster through its coordinator. The strategy drops it in the same transaction: a server that goes down before dbt does so
  leaves it there, on staging that no month could then make anew.
-#}
{% macro postgres__create_table_as(temporary, relation, sql) %}
    {%- if temporary and model.config.incremental_strategy in streamflow.strategies() -%}
        {{ get_assert_columns_equivalent(sql) }}
        create temporary view {{ relation }} as
        {{ sql }}
    {%- else -%}
        {{ dbt.postgres__create_table_as(temporary, relation, sql) }}
    {%- endif -%}
{% endmacro %}


{#- For them dbt need not compare columns in the catalog: the gate, or on-run-start without it, has added what is declared. -#}
{% macro postgres__process_schema_changes(on_schema_change, source_relation, target_relation) %}
    {%- if model.config.incremental_strategy in streamflow.strategies() -%}
        {{ return(model.columns.values() | list) }}
    {%- endif -%}
    {{ return(dbt.default__process_schema_changes(on_schema_change, source_relation, target_relation)) }}
{% endmacro %}


{#-
  dbt replaces a view by renaming and dropping it: readers would wait for that behind whoever reads it in a long transaction, and
  views and grants that others made on it would go. A view that says what it said stays as it is; dbt's own way is taken otherwise.
-#}
{% materialization view, adapter='postgres' %}
    {%- set existing, wanted = load_cached_relation(this), make_temp_relation(this) -%}
    {%- if not existing or not existing.is_view or pre_hooks or post_hooks -%}
        {{ return(dbt.materialization_view_default()) }}
    {%- endif -%}
    {%- call statement('main', fetch_result=True, auto_begin=True) -%}
        {% if config.get('contract').enforced %}{{ get_assert_columns_equivalent(sql) }}{% endif %}
        create temporary view {{ wanted }} as {{ sql }};
        select set_config('streamflow.is_same', (pg_get_viewdef('{{ wanted }}'::regclass) = pg_get_viewdef('{{ existing }}'::regclass))::text, true);
        drop view {{ wanted }};
        select current_setting('streamflow.is_same')::boolean
    {%- endcall -%}
    {%- if not load_result('main').table.rows[0][0] %}{{ return(dbt.materialization_view_default()) }}{% endif -%}
    {%- do apply_grants(existing, config.get('grants'), should_revoke=true) -%}
    {%- do persist_docs(existing, model) -%}
    {{ adapter.commit() }}
    {{ return({'relations': [existing]}) }}
{% endmaterialization %}
