{#- Overrides of dbt's own macros, in the ways that dbt documents. -#}

{#- The schema in a model's config is the whole name, not a suffix, because the contract fixes where the tables are. -#}
{% macro default__generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}


{#- `dbt clone` calls this before it replaces a table with a copy or a view of another one, which would destroy history. -#}
{% macro default__can_clone_table() %}
    {{ exceptions.raise_compiler_error("`dbt clone` is not for this project: it would replace history and production") }}
{% endmacro %}


{#- Avoids dbt's warning that a numeric without a precision rounds: in PostgreSQL it keeps every digit. -#}
{% macro postgres__get_empty_schema_sql(columns) %}
    {%- if columns.values() | rejectattr('data_type') | list %}{{ return(dbt.default__get_empty_schema_sql(columns)) }}{% endif -%}
    select
    {%- for column in columns.values() %}
        {%- set is_written_as_is = column.name != column.name | lower and not column.quote %}
        cast(null as {{ column.data_type }}) as {{ column.name if is_written_as_is else adapter.quote(column.name) }}{{ ',' if not loop.last }}
    {%- endfor %}
{% endmacro %}


{#- An audit that is waived for the load in staging warns instead of failing. dbt itself reports the warning, however it is run. -#}
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
  The strategies of this package read a temporary view. dbt's temporary table would write all rows a second time, without statistics,
  and pull a cluster's rows through its coordinator. The strategy drops the view in its own transaction: if the server crashed before
  dbt dropped the view, the view would stay, and no month could recreate the staging table that it reads.
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


{#- With this package's strategies dbt need not compare columns: the gate, or on-run-start without it, has added the declared ones. -#}
{% macro postgres__process_schema_changes(on_schema_change, source_relation, target_relation) %}
    {%- if model.config.incremental_strategy in streamflow.strategies() -%}
        {{ return(model.columns.values() | list) }}
    {%- endif -%}
    {{ return(dbt.default__process_schema_changes(on_schema_change, source_relation, target_relation)) }}
{% endmacro %}


{#-
  dbt replaces a view by renaming and dropping it. New readers would wait behind any long transaction that reads the view, and the views
  and grants that others made on it would be lost. So a view with an unchanged definition stays, and one that keeps its columns, with or
  without others after them, is replaced in place; dbt replaces the rest as usual.
-#}
{% materialization view, adapter='postgres' %}
    {%- set existing, wanted = load_cached_relation(this), make_temp_relation(this) -%}
    {%- if not existing or not existing.is_view or pre_hooks or config.get('sql_header') -%}
        {{ return(dbt.materialization_view_default()) }}
    {%- endif -%}
    {%- call statement('main', fetch_result=True, auto_begin=True) -%}
        {% if config.get('contract').enforced %}{{ get_assert_columns_equivalent(sql) }}{% endif %}
        create temporary view {{ wanted }} as (
            {{ sql }}
        );
        select set_config('streamflow.is_same', (pg_get_viewdef('{{ wanted }}'::regclass) = pg_get_viewdef('{{ existing }}'::regclass))::text, true);
        drop view {{ wanted }};
        do $streamflow$
        declare
            options text := (select array_to_string(reloptions, ', ') from pg_class where oid = '{{ existing }}'::regclass);
        begin
            if not current_setting('streamflow.is_same')::boolean then
                create or replace view {{ existing }} as (
                    {{ sql }}
                );
                if options <> '' then
                    execute format('alter view {{ existing }} set (%s)', options);
                end if;
                perform set_config('streamflow.is_same', 'true', true);
            end if;
        exception when invalid_table_definition then
            null;
        end $streamflow$;
        select current_setting('streamflow.is_same')::boolean
    {%- endcall -%}
    {%- if not load_result('main').table.rows[0][0] %}{{ return(dbt.materialization_view_default()) }}{% endif -%}
    {%- do apply_grants(existing, config.get('grants'), should_revoke=true) -%}
    {%- do persist_docs(existing, model) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [existing]}) }}
{% endmaterialization %}
