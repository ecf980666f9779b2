{#- On-run-end: enters the verdicts of the audits that ran, for the load that staging held when the run began. -#}
{% macro record_verdicts(results) %}
    {%- set audited = [] -%}
    {%- for result in results if result.node.resource_type == 'test' and result.status != 'skipped' and streamflow.audited_table(result.node) -%}
        {%- do audited.append(result) -%}
    {%- endfor -%}
    {%- if execute and audited and not (invocation_args_dict.get('empty') or invocation_args_dict.get('sample')) -%}
    insert into ops.audits (load_id, audit_id, audit_name, table_name, column_name, severity, status, failures, finding)
    select runs.load_id, verdicts.*
    from (
        values
        {%- for result in audited %}
        (
            '{{ result.node.unique_id }}', '{{ result.node.name }}', '{{ streamflow.audited_table(result.node) }}',
            {{ "'" ~ result.node.column_name ~ "'" if result.node.column_name else 'null' }},
            '{{ result.node.config.severity | lower }}',
            '{{ result.status if result.status in ['pass', 'warn'] else 'fail' }}', {{ result.failures or 0 }},
            {{ streamflow.finding_of(result) }}
        ){{ ',' if not loop.last }}
        {%- endfor %}
    ) as verdicts (audit_id, audit_name, table_name, column_name, severity, status, failures, finding)
    inner join ops.runs as runs on runs.invocation_id = '{{ invocation_id }}'
    where runs.load_id = (select max(load_id) from ops.staged)
    on conflict (load_id, audit_id) do update
    set status = excluded.status, failures = excluded.failures, finding = excluded.finding, audited_at = excluded.audited_at
    {%- endif -%}
{% endmacro %}


{#- As a literal: what an audit that counts its findings has found, in its words. It holds no value of a row. -#}
{% macro finding_of(result) %}
    {%- if result.status not in ['warn', 'fail'] or result.node.config.fail_calc != 'count(finding)' %}null::text
    {%- else -%}
        {%- set query = "select string_agg(finding, '; ' order by finding) from (" ~ result.node.compiled_code ~ ") as found" -%}
        '{{ run_query(query).rows[0][0] | default('', true) | replace("'", "''") }}'
    {%- endif -%}
{% endmacro %}
