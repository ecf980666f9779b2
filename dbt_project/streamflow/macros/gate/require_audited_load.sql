{#-
  The gate's pre-hook. dbt itself skips the gate when an audit fails. This macro ends the run if audits of a new month were left out
  (`dbt run`, --exclude, a selection, retry), if rows would break a foreign key, or if staging is not what was audited. Then it undoes
  what unfinished loads left in history, and adds newly declared columns. Foreign keys that are no longer declared are dropped first.
-#}
{% macro require_audited_load() %}
    {%- if execute -%}
        {%- if invocation_args_dict.get('use_fast_test_edges') -%}
            {%- do streamflow.keep_shut("dbt would build it before audits of several tables have ended", "Run dbt without --use-fast-test-edges.") -%}
        {%- endif -%}
        {%- set left_out, audits = [], streamflow.audits() -%}
        {%- for node in graph.nodes.values() if not audits and node.resource_type == 'test' and streamflow.audited_table(node) -%}
            {%- do streamflow.keep_shut("no test of staging has severity error", "If dbt_project.yml sets severity for all data_tests, take that"
                ~ " out, or set it in the folder of your own tests only.") -%}
        {%- endfor -%}
        {%- for audit in audits -%}
            {%- if audit.unique_id not in selected_resources %}{% do left_out.append(audit.name) %}{% endif -%}
            {%- for id in audit.depends_on.nodes if id not in model.depends_on.nodes -%}
                {%- if id.startswith('function.') -%}
                    {%- do streamflow.keep_shut("audit " ~ audit.name ~ " calls " ~ id ~ ", so dbt would not let the gate wait for it", "Make the"
                        ~ " function a macro.") -%}
                {%- endif -%}
                {%- set named = id.split('.')[-1] if id.startswith('seed.') else '[' ~ id.split('.')[-2:] | join(', ') ~ ']' -%}
                {%- do streamflow.keep_shut("audit " ~ audit.name ~ " reads " ~ id ~ ", which the gate does not depend on, so dbt would not"
                    ~ " let the gate wait for this audit", "Set in dbt_project.yml `vars: {audited_besides: [" ~ named ~ "]}`, or add it"
                    ~ " to that list.") -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- if left_out and run_query('select ops.is_to_publish()').rows[0][0] -%}
            {%- do streamflow.keep_shut("audits that are not part of this run: " ~ left_out | length ~ ", " ~ left_out[0] ~ " among them",
                "Run `dbt build` without a selection, or `streamflow ingest`.") -%}
        {%- endif -%}
        {%- set declared = streamflow.declarations() -%}
        {%- do run_query(streamflow.begin_step() ~ "; select ops.drop_left_over_keys(" ~ declared ~ "); commit; begin") -%}
        {%- do streamflow.require_references() -%}
        {{ streamflow.begin_step() }};
        select ops.open_gate('{{ invocation_id }}');
        select ops.follow_declaration({{ declared }}, true)
    {%- endif -%}
{% endmacro %}


{#-
  Ends the run if rows refer to a parent row that production will not have; otherwise the foreign key would refuse them after history was
  built. Checks the rows of staging unless a `relationships` audit of severity error covers the key, those of production if the key is
  new, and those of other months if a restatement removes the parent row. `streamflow check` runs this as a run-operation.
-#}
{% macro require_references() %}
    {%- set audited = [] -%}
    {%- set waived = run_query('select audit_name from ops.waivers where load_id = (select max(load_id) from ops.staged)').columns[0].values() -%}
    {%- for audit in streamflow.audits() if audit.test_metadata and audit.test_metadata.name == 'relationships' and streamflow.lets_none_pass(audit)
        and audit.name not in waived -%}
        {%- for read in audit.sources -%}
            {%- set column, field = audit.column_name | replace('"', ''), audit.test_metadata.kwargs.field | replace('"', '') -%}
            {%- do audited.append([streamflow.audited_table(audit), [column], read | last, [field]]) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set unmatched = 'select * from ops.unmatched(' ~ streamflow.declarations() ~ ', ' ~ streamflow.as_json(audited) ~ ') where row_count > 0' -%}
    {%- for broken in run_query(unmatched).rows -%}
        {%- set declared_in = graph.nodes.values() | selectattr('name', 'equalto', broken.child) | map(attribute='original_file_path') | first -%}
        {%- set remedy = "The table has the foreign key " ~ broken.key ~ ", which is not declared. If that reference no longer holds,"
            ~ " `alter table " ~ broken.child ~ " drop constraint " ~ broken.key ~ "` in psql"
            if broken.key is not none else "Have the files corrected; a `relationships` audit of severity error would list them. If the reference"
            ~ " no longer holds, take it out of the contract and of " ~ declared_in | replace('.sql', '.yml') -%}
        {%- do streamflow.refuse_month(broken.child, "rows of " ~ broken.child ~ " that match no row of " ~ broken.parent ~ " by "
            ~ broken.columns ~ ": " ~ broken.row_count ~ ". " ~ remedy) -%}
    {%- endfor -%}
    {%- for left in run_query('select * from ops.left_without(' ~ streamflow.declarations() ~ ') where row_count > 0').rows -%}
        {%- if left.key is none -%}
            {%- set remedy = "Take the reference out of the declaration, restate those months with corrected files, and then declare it" -%}
        {%- elif left.is_declared and left.dates -%}
            {%- set remedy = "Restate with files that have the missing rows of " ~ left.parent ~ ", or first restate what refers to them: "
                ~ left.child ~ " of " ~ left.dates -%}
        {%- else -%}
            {%- set remedy = "To keep those rows, `alter table " ~ left.child ~ " drop constraint " ~ left.key ~ "` in psql, and restate again" -%}
        {%- endif -%}
        {%- do streamflow.refuse_month(left.about, "rows of " ~ left.child ~ " that would match no row of " ~ left.parent ~ " by "
            ~ left.columns ~ ": " ~ left.row_count ~ (", delivered on " ~ left.dates if left.dates else "") ~ ". " ~ remedy) -%}
    {%- endfor -%}
{% endmacro %}


{#- Whether one bad row, wherever it is in the table, is enough to fail this `relationships` audit of severity error. -#}
{% macro lets_none_pass(audit) %}
    {#- a project may have a macro of its own for that, by its name or by dispatch -#}
    {%- for called in [
        test_relationships, get_where_subquery, adapter.dispatch('test_relationships', 'dbt'), adapter.dispatch('get_where_subquery', 'dbt'),
    ] if called.macro.package_name != 'dbt' -%}
        {{ return(false) }}
    {%- endfor -%}
    {{ return(not audit.config.where and audit.config.fail_calc == 'count(*)' and audit.config.error_if | replace(' ', '') in ['!=0', '>0', '>=1']) }}
{% endmacro %}


{#- Refuses the month because of its rows: enters the finding in ops.audits as the audit `references`, and ends the run. -#}
{% macro refuse_month(table_name, finding) %}
    {%- set entry -%}
        insert into ops.audits (load_id, audit_id, audit_name, table_name, severity, status, failures, finding)
        select
            max(staged.load_id), 'gate', 'references', '{{ table_name }}', 'error', 'fail', 1,
            {{ dbt.string_literal(dbt.escape_single_quotes(finding)) }}
        from ops.staged as staged
        having max(staged.load_id) not in (select published.load_id from ops.published as published)
        on conflict (load_id, audit_id) do update set table_name = excluded.table_name, finding = excluded.finding, audited_at = excluded.audited_at
    {%- endset -%}
    {%- do run_query(entry ~ '; commit') -%}
    {{ exceptions.raise_compiler_error("the month is refused: " ~ finding ~ ". Nothing was changed.") }}
{% endmacro %}


{#- Ends the run before the gate is built, so that nothing below it is built either. `reason` and `remedy` are the message. -#}
{% macro keep_shut(reason, remedy) %}
    {{ exceptions.raise_compiler_error("the gate stays closed: " ~ reason ~ ". Nothing below it was built. " ~ remedy) }}
{% endmacro %}


{#- The audits that can refuse a month, as a list of graph nodes: the tests of severity error that read staging and no model. -#}
{% macro audits() %}
    {%- set found = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'test' and node.config.severity | lower == 'error' and streamflow.audited_table(node) -%}
        {%- do found.append(node) -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- The staging table that a test is declared on, or the first one that a singular test names; none if the test also reads a model. -#}
{% macro audited_table(test) %}
    {%- set named, built = [], [] -%}
    {%- for source_name, table_name in test.sources if streamflow.is_staged(source_name, table_name) %}{% do named.append(table_name) %}{% endfor -%}
    {%- for id in test.depends_on.nodes if id.split('.')[0] not in ['source', 'seed', 'function'] %}{% do built.append(id) %}{% endfor -%}
    {%- set declared_on = modules.re.search("source\\('staging', '(\\w+)'\\)", test.test_metadata.kwargs.model if test.test_metadata else '') -%}
    {{ return((declared_on.group(1) if declared_on else named[0]) if named and not built else none) }}
{% endmacro %}
