{#-
  On-run-end: enters the verdicts of the audits that ran, for the load that staging held when the run began, and closes the gate if
  one failed. Takes nodes that succeeded in this run out of ops.loads.failed_nodes, which lists failures after a month was published.
-#}
{% macro record_verdicts(results) %}
    {%- set verdicts = [] -%}
    {%- for result in results if result.node.resource_type == 'test' and result.status != 'skipped' and streamflow.audited_table(result.node) -%}
        {%- do verdicts.append({
            'audit_id': result.node.unique_id,
            'audit_name': result.node.name,
            'table_name': streamflow.audited_table(result.node),
            'column_name': result.node.column_name or none,
            'severity': result.node.config.severity | lower,
            'status': result.status if result.status in ['pass', 'warn'] else 'fail',
            'failures': result.failures or 0,
            'finding': streamflow.finding_of(result)
        }) -%}
    {%- endfor -%}
    {%- if not execute or invocation_args_dict.get('empty') or invocation_args_dict.get('sample') %}{{ return('') }}{% endif -%}
    {%- set built = results | rejectattr('node.resource_type', 'equalto', 'source') | selectattr('status', 'in', ['success', 'pass', 'warn']) -%}
    {%- set mended = built | map(attribute='node.name') | list -%}
    {%- if mended -%}
    update ops.loads set failed_nodes = array(select unnest(failed_nodes) except select unnest({{ streamflow.text_array(mended) }}))
    where failed_nodes && {{ streamflow.text_array(mended) }};
    {%- endif %}
    {%- if verdicts %}
    insert into ops.audits (load_id, audit_id, audit_name, table_name, column_name, severity, status, failures, finding)
    select runs.load_id, verdicts.*
    from jsonb_to_recordset({{ streamflow.as_json(verdicts) }}) as verdicts (
        audit_id text, audit_name text, table_name text, column_name text, severity text, status text, failures bigint, finding text
    )
    inner join ops.runs as runs on runs.invocation_id = '{{ invocation_id }}'
    where
        runs.load_id = (select max(load_id) from ops.staged)
        -- verdicts on a load that was published before this run are final; it has none if its run was killed before it entered them
        and (
            runs.load_id not in (select published.load_id from ops.published as published where published.published_at < runs.started_at)
            or runs.load_id not in (select known.load_id from ops.audits as known)
        )
    on conflict (load_id, audit_id) do update
    set severity = excluded.severity, status = excluded.status, failures = excluded.failures, finding = excluded.finding, audited_at = excluded.audited_at;
    select ops.close_gate('{{ invocation_id }}')
    {%- endif -%}
{% endmacro %}


{#- The findings of an audit that counts findings, as text. The text holds no value of any row. -#}
{% macro finding_of(result) %}
    {%- if result.status in ['warn', 'fail'] and result.node.config.fail_calc == 'count(finding)' -%}
        {%- set query = "select string_agg(finding, '; ' order by finding) from (" ~ result.node.compiled_code ~ "\n) as found" -%}
        {{ return(run_query(query).rows[0][0]) }}
    {%- endif -%}
    {{ return(none) }}
{% endmacro %}
