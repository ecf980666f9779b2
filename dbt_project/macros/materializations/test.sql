{#-
  A data test on a staging table is an audit: its verdict is entered in ops.audits for the load that staging held while it
  ran, in the statement that ran it, so that the gate can ask for it. Any other test runs as dbt's own.
-#}
{% materialization test, adapter='postgres' %}
    {%- set audited = audited_table() -%}
    {%- if audited is none -%}
        {{ return(dbt.materialization_test_default()) }}
    {%- endif -%}
    {%- call statement('main', fetch_result=True, auto_begin=True) %}
        with verdict as (
            {{ get_test_sql(get_limit_subquery_sql(sql, config.get('limit')), config.get('fail_calc'), config.get('warn_if'), config.get('error_if'), limit=none) }}
        ),

        recorded as (
            {{ record_audit(audited) }}
        )

        select * from verdict
    {%- endcall -%}
    {{ adapter.commit() }}
    {{ return({'relations': []}) }}
{% endmaterialization %}


{#- The staging table that this test is declared on; none where it is declared on something else. -#}
{% macro audited_table() %}
    {%- set source = audited_source() -%}
    {{ return(source.identifier if source else none) }}
{% endmacro %}


{#- The source node of that table. dbt keeps what a generic test is declared on only in the text of its `model` argument. -#}
{% macro audited_source() %}
    {%- set declared_on = modules.re.search("source\\('staging', '(\\w+)'\\)", model.test_metadata.kwargs.model if model.test_metadata else '') -%}
    {{ return(graph.sources['source.' ~ project_name ~ '.staging.' ~ declared_on.group(1)] if declared_on else none) }}
{% endmacro %}


{% macro record_audit(table_name) %}
    {%- set severity = config.get('severity') | lower -%}
            insert into {{ api.Relation.create(schema='ops', identifier='audits') }}
                (load_id, audit_id, audit_name, table_name, column_name, severity, status, failures)
            select
                staged.load_id,
                '{{ model.unique_id }}',
                '{{ model.name }}',
                '{{ table_name }}',
                {{ "'" ~ model.column_name ~ "'" if model.column_name else 'null' }},
                '{{ severity }}',
                case
                    {%- if severity == 'error' %}
                    when verdict.should_error then 'fail'
                    {%- endif %}
                    when verdict.should_warn then 'warn'
                    else 'pass'
                end,
                verdict.failures
            from verdict cross join ops.staged as staged
            where staged.table_name = '{{ table_name }}'
            on conflict (load_id, audit_id) do update
            set status = excluded.status, failures = excluded.failures, audited_at = excluded.audited_at
{% endmacro %}
