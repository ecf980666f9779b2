{#- The audits: tests that are declared on staging tables. `severity` leaves only those of that severity. -#}
{% macro audits(severity=none) %}
    {%- set found = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'test' and (severity is none or node.config.severity | lower == severity) -%}
        {%- for id in node.depends_on.nodes if id in graph.sources and graph.sources[id].source_name == 'staging' -%}
            {%- if loop.first %}{% do found.append(node) %}{% endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- The staging table that a test is declared on; none for other tests. dbt keeps that only in the text of the `model` argument. -#}
{% macro audited_table(test) %}
    {%- set declared_on = modules.re.search("source\\('staging', '(\\w+)'\\)", test.test_metadata.kwargs.model if test.test_metadata else '') -%}
    {{ return(declared_on.group(1) if declared_on else none) }}
{% endmacro %}


{#- The name of the staging table that a generic test got as its `model`, a condition around it or not. -#}
{% macro table_in(model) %}
    {{ return(modules.re.search('"staging"."(\\w+)"', model | string).group(1) if execute else '') }}
{% endmacro %}


{#- The names of the columns that a staging table has by its declaration. -#}
{% macro staged_columns(table_name) %}
    {%- set names = ['as_of'] -%}
    {%- if execute -%}
        {%- do names.extend(on_engine('columns_of_its_own')()) -%}
        {%- for name in graph.sources['source.' ~ project_name ~ '.staging.' ~ table_name].columns %}{% do names.append(name) %}{% endfor -%}
    {%- endif -%}
    {{ return(names) }}
{% endmacro %}


{#- One row: failures, should_warn, should_error; what dbt itself would ask. -#}
{% macro verdict_of(test, sql) %}
    {{ get_test_sql(
        get_limit_subquery_sql(sql, test.config.get('limit')), test.config.fail_calc, test.config.warn_if, test.config.error_if, limit=none
    ) }}
{% endmacro %}


{#- Enters the verdicts of some tests, which the statement has as verdict_1, verdict_2, ... in the order of the tests. -#}
{% macro record_audits(tests) %}
            insert into {{ api.Relation.create(schema='ops', identifier='audits') }}
                (load_id, audit_id, audit_name, table_name, column_name, severity, status, failures)
            select staged.load_id, verdict.*
            from (
            {%- for test in tests %}
                {%- set severity = test.config.severity | lower %}
                select
                    '{{ test.unique_id }}' as audit_id,
                    '{{ test.name }}' as audit_name,
                    '{{ audited_table(test) }}' as table_name,
                    {{ "'" ~ test.column_name ~ "'" if test.column_name else 'null' }} as column_name,
                    '{{ severity }}' as severity,
                    case
                        {%- if severity == 'error' %}
                        when should_error then 'fail'
                        {%- endif %}
                        when should_warn then 'warn'
                        else 'pass'
                    end as status,
                    failures
                from verdict_{{ loop.index }}
                {{- ' union all' if not loop.last }}
            {%- endfor %}
            ) as verdict
            inner join ops.staged as staged on staged.table_name = verdict.table_name
            on conflict (load_id, audit_id) do update
            set status = excluded.status, failures = excluded.failures, audited_at = excluded.audited_at
{% endmacro %}


{#-
  Runs the audits that the staged load has no verdict of yet, all in one statement: what `streamflow ingest` does with a small
  month, where dbt's own work for 53 tests takes ten times as long as their queries. The tests are the same, macro by macro.
  Only for an ingest: a `dbt run` by hand runs no audit.
-#}
{% macro run_missing_audits() %}
    {%- set tests = [] -%}
    {%- if env_var('STREAMFLOW_LOCK_HOLDER', '') -%}
        {%- set audited = run_query(
            "select audit_id from " ~ source('ops', 'audits') ~ " where load_id = " ~ publishable_load()
            ~ " union all select 'none staged' where " ~ publishable_load() ~ " is null"
        ).columns[0].values() -%}
        {%- for test in audits() if 'none staged' not in audited and test.unique_id not in audited and audited_table(test) -%}
            {%- do tests.append(test) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if tests -%}
        {%- call statement('audits', auto_begin=True) %}
            with {% for test in tests %}verdict_{{ loop.index }} as (
                {{ verdict_of(test, audit_sql(test)) }}
            ){{ ', ' if not loop.last }}
            {% endfor %}
            {{ record_audits(tests) }}
        {% endcall -%}
        {{ adapter.commit() }}
    {%- endif -%}
{% endmacro %}


{#- The SQL of an audit as its test's macro makes it, from the arguments that it is declared with. -#}
{% macro audit_sql(test) %}
    {%- set arguments = {} -%}
    {%- for name, value in test.test_metadata.kwargs.items() -%}
        {%- set is_relation = value is string and modules.re.match('(source|ref)\\(.*\\)$', value) -%}
        {%- do arguments.update({name: render('{{ ' ~ value ~ ' }}') if is_relation else value}) -%}
    {%- endfor -%}
    {%- set staged = source('staging', audited_table(test)) -%}
    {%- do arguments.update({
        'model': '(select * from ' ~ staged ~ ' where ' ~ test.config.get('where') ~ ') dbt_subquery' if test.config.get('where') else staged
    }) -%}
    {%- set package = context[test.test_metadata.namespace] if test.test_metadata.namespace else context -%}
    {{ package['test_' ~ test.test_metadata.name](**arguments) }}
{% endmacro %}
