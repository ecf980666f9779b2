{#-
  The gate's pre-hook. dbt itself skips the gate when an audit fails. This macro ends the run if audits of a new month were left out
  (`dbt run`, --exclude, a selection, retry), if rows would break a foreign key, or if staging is not what was audited. Then it undoes
  what unfinished loads left in history, and adds newly declared columns. Foreign keys that are no longer declared are dropped first.
-#}
{% macro require_audited_load() %}
    {%- if execute -%}
        {%- set left_out, audits = [], streamflow.audits('error') -%}
        {%- for audit in audits -%}
            {%- if audit.unique_id not in selected_resources %}{% do left_out.append(audit.name) %}{% endif -%}
            {%- for id in audit.depends_on.nodes if id not in model.depends_on.nodes -%}
                {%- set named = id.split('.')[-1] if id.startswith('seed.') else '[' ~ id.split('.')[-2:] | join(', ') ~ ']' -%}
                {%- do streamflow.keep_shut("audit " ~ audit.name ~ " reads " ~ id ~ ", which the gate does not depend on, so dbt would not"
                    ~ " let the gate wait for this audit: set in dbt_project.yml `vars: {audited_besides: [" ~ named ~ "]}`, or add it"
                    ~ " to that list") -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- if left_out and run_query('select ops.is_to_publish()').rows[0][0] -%}
            {%- do streamflow.keep_shut("audits that are not part of this run: " ~ left_out | length ~ ", " ~ left_out[0] ~ " among them") -%}
        {%- endif -%}
        {%- set tables, declared = streamflow.production() | map(attribute='name') | list, streamflow.as_json(streamflow.declared_keys()) -%}
        {%- set drop = "select ops.drop_left_over_keys(" ~ streamflow.text_array(tables) ~ ", " ~ declared ~ ")" -%}
        {%- do run_query(streamflow.begin_step() ~ '; ' ~ drop ~ '; commit; begin') -%}
        {%- do streamflow.require_references() -%}
        {{ streamflow.begin_step() }};
        select ops.open_gate('{{ invocation_id }}');
        {{ streamflow.follow_declaration(true) }}
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
    {%- for audit in streamflow.audits('error') if audit.test_metadata and audit.test_metadata.name == 'relationships' and streamflow.lets_none_pass(audit)
        and audit.name not in waived -%}
        {%- for read in audit.sources -%}
            {%- set column, field = audit.column_name | replace('"', ''), audit.test_metadata.kwargs.field | replace('"', '') -%}
            {%- do audited.append([streamflow.audited_table(audit), [column], read | last, [field]]) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- for child in streamflow.production() -%}
        {%- for key in child.constraints if key.type == 'foreign_key' -%}
            {%- set parent, by = streamflow.parent_of(key), key.columns | join(', ') -%}
            {%- set found = "that match no row of " ~ parent ~ " by " ~ by ~ ": " -%}
            {%- set orphans = 0 if [child.name, key.columns | list, parent, key.to_columns | list] in audited
                else streamflow.orphans(source('staging', child.name), key)[0] -%}
            {%- if orphans -%}
                {%- do streamflow.refuse_month(child.name, "rows of " ~ child.name ~ " " ~ found ~ orphans
                    ~ ". Have the files corrected; a `relationships` audit of severity error would list them. If the reference no longer"
                    ~ " holds, take it out of the contract and of " ~ child.original_file_path | replace('.sql', '.yml')) -%}
            {%- endif -%}
            {%- set others = streamflow.orphans(child.relation_name, key, 'observed_as_of') if streamflow.key_is_new(child, key.columns) else [0] -%}
            {%- if others[0] -%}
                {%- do streamflow.refuse_month(child.name, "rows of " ~ child.name ~ " in published months " ~ found ~ others[0] ~ ", delivered on "
                    ~ others[1] ~ ". Take the reference out of the declaration, restate those months with corrected files, and then declare it")
                -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- for broken in run_query('select * from ops.unmatched(' ~ streamflow.as_json(streamflow.declared_keys()) ~ ') where row_count > 0').rows -%}
        {%- do streamflow.refuse_month(broken.child, "rows of " ~ broken.child ~ " that match no row of " ~ broken.parent ~ " by "
            ~ broken.columns ~ ": " ~ broken.row_count ~ ". The table has the foreign key " ~ broken.key ~ ", which is not declared. If that"
            ~ " reference no longer holds, `alter table " ~ broken.child ~ " drop constraint " ~ broken.key ~ "` in psql") -%}
    {%- endfor -%}
    {%- for left in run_query('select * from ops.left_behind() where row_count > 0').rows -%}
        {%- set remedy = "Restate with files that have them, or first restate what refers to them: " ~ left.child ~ " of " ~ left.dates
            if left.is_staged else "To keep those rows, `alter table " ~ left.child ~ " drop constraint " ~ left.key
            ~ "` in psql, and restate again" -%}
        {%- do streamflow.refuse_month(left.parent, "rows of " ~ left.child ~ " that would match no row of " ~ left.parent ~ " by "
            ~ left.columns ~ ": " ~ left.row_count ~ ". No other month delivered the missing rows of " ~ left.parent ~ ". " ~ remedy) -%}
    {%- endfor -%}
{% endmacro %}


{#- Whether one bad row, wherever it is in the table, is enough to fail this audit of severity error. -#}
{% macro lets_none_pass(audit) %}
    {{ return(not audit.config.where and audit.config.fail_calc == 'count(*)' and audit.config.error_if | replace(' ', '') in ['!=0', '>0', '>=1']) }}
{% endmacro %}


{#- Refuses the month because of its rows: enters the finding like the verdict of an audit, and ends the run. -#}
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


{#- Whether a production table has rows and lacks a foreign key, which will then check these rows for the first time. -#}
{% macro key_is_new(child, columns) %}
    {%- set missing -%}
        select count(*) from ops.missing_keys('{{ child.relation_name }}', {{ streamflow.as_json(child.constraints) }}) as missing
        where missing.type = 'foreign_key' and missing.columns = {{ streamflow.text_array(columns) }}
            -- a declared column that the table does not have yet will be null in all existing rows
            and missing.columns <@ (select array_agg(attname::text) from pg_attribute where attrelid = '{{ child.relation_name }}'::regclass)
    {%- endset -%}
    {{ return(
        adapter.get_relation(target.database, target.schema, child.name)
        and run_query(missing).rows[0][0] > 0
        and run_query('select 1 from ' ~ child.relation_name ~ ' limit 1').rows | length > 0
    ) }}
{% endmacro %}


{#- The table that a foreign key refers to. `to` is ref('users') in the graph and a relation in a compiled model: both end in its name. -#}
{% macro parent_of(key) %}{{ return(modules.re.findall('\\w+', key.to) | last) }}{% endmacro %}


{#-
  How many rows of `relation` have a foreign key that its parent lacks in staging, in production and, for rows of production, in history;
  and the dates of their delivery, which are in the column `date`.
-#}
{% macro orphans(relation, key, date='as_of') %}
    {%- set its, theirs = streamflow.quoted(key.columns) | join(', '), streamflow.quoted(key.to_columns) | join(', ') -%}
    {%- set parent = streamflow.parent_of(key) -%}
    {%- set query -%}
        select count(*), string_agg(distinct named_on, ', ')
        from (
            select {{ date }}::text as named_on
            from {{ relation }}
            where ({{ its }}) in (
                select {{ its }} from {{ relation }} where ({{ its }}) is not null
                except
                select {{ theirs }} from {{ source('staging', parent) }}
                {%- for name in [parent] + ([parent ~ '_snapshots'] if date != 'as_of' else []) %}
                {%- set known = adapter.get_relation(target.database, target.schema, name) %}
                {%- if known %}
                except
                select {{ theirs }} from {{ known }}
                {%- endif %}
                {%- endfor %}
            )
        ) as named
    {%- endset -%}
    {{ return(run_query(query).rows[0]) }}
{% endmacro %}


{#- The production models. -#}
{% macro production() %}
    {%- set found = [] -%}
    {%- for node in graph.nodes.values() if node.config.get('incremental_strategy') == 'newest_wins' %}{% do found.append(node) %}{% endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- The foreign keys that production declares, as [[child, columns, parent]]. -#}
{% macro declared_keys() %}
    {%- set declared = [] -%}
    {%- for child in streamflow.production() -%}
        {%- for key in child.constraints if key.type == 'foreign_key' -%}
            {%- do declared.append([child.name, key.columns, streamflow.parent_of(key)]) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(declared) }}
{% endmacro %}


{% macro keep_shut(reason) %}
    {{ exceptions.raise_compiler_error(
        "the gate stays closed: " ~ reason ~ ". Nothing below it was built. Run `dbt build` without a selection, or `streamflow ingest`."
    ) }}
{% endmacro %}


{#- The tests that read staging and no model; only those of `severity`, if it is given. -#}
{% macro audits(severity=none) %}
    {%- set found = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'test' and streamflow.audited_table(node) -%}
        {%- if not severity or severity == node.config.severity | lower %}{% do found.append(node) %}{% endif -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- The staging table that a test is declared on, or the first one that a singular test names; none if the test also reads a model. -#}
{% macro audited_table(test) %}
    {%- set named = test.sources | selectattr(0, 'equalto', 'staging') | map('last') | list -%}
    {%- set built = [] -%}
    {%- for id in test.depends_on.nodes if id.split('.')[0] not in ['source', 'seed'] %}{% do built.append(id) %}{% endfor -%}
    {%- set declared_on = modules.re.search("source\\('staging', '(\\w+)'\\)", test.test_metadata.kwargs.model if test.test_metadata else '') -%}
    {{ return((declared_on.group(1) if declared_on else named[0]) if named and not built else none) }}
{% endmacro %}
