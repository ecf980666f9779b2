{#-
  The gate's pre-hook. dbt skips the gate when an audit that it runs fails; this ends the run where audits were left out (`dbt run`,
  --exclude, a selection, retry), and where staging is not what was audited. Then it undoes what unfinished loads left in history.
-#}
{% macro require_audited_load() %}
    {%- if execute -%}
        {%- set left_out = [] -%}
        {%- for audit in streamflow.refusing_audits() -%}
            {%- if audit.unique_id not in selected_resources %}{% do left_out.append(audit.name) %}{% endif -%}
            {%- for id in audit.depends_on.nodes if id not in model.depends_on.nodes -%}
                {%- do streamflow.keep_shut("audit " ~ audit.name ~ " reads " ~ id ~ ", and dbt lets the gate wait for an audit only where the gate"
                    ~ " depends on all that it reads: name that source in audited_besides(), macros/audited_besides.sql") -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- if left_out -%}
            {%- do streamflow.keep_shut("audits that are not part of this run: " ~ left_out | length ~ ", " ~ left_out[0] ~ " among them") -%}
        {%- endif -%}
        {%- do streamflow.require_references() -%}
        {{ streamflow.begin_step() }};
        select ops.open_gate('{{ invocation_id }}')
    {%- endif -%}
{% endmacro %}


{#-
  Ends the run where rows of staging name a row that production will not have: its foreign key would refuse them when history stands
  already, and the month could neither go on nor be given up. A `relationships` audit of severity error has told so before.
-#}
{% macro require_references() %}
    {%- set audited = [] -%}
    {%- for audit in streamflow.refusing_audits() if audit.test_metadata and audit.test_metadata.name == 'relationships' and not audit.config.where -%}
        {%- do audited.append([streamflow.audited_table(audit), [audit.column_name]]) -%}
    {%- endfor -%}
    {%- for child in graph.nodes.values() if child.config.get('incremental_strategy') == 'newest_wins' -%}
        {%- for key in child.constraints if key.type == 'foreign_key' and [child.name, key.columns | list] not in audited -%}
            {%- set its, theirs = streamflow.quoted(key.columns) | join(', '), streamflow.quoted(key.to_columns) | join(', ') -%}
            {%- set parent = modules.re.findall('\\w+', key.to) | last -%}
            {%- set query -%}
                select count(*) from (
                    select {{ its }} from {{ source('staging', child.name) }} where ({{ its }}) is not null
                    except
                    select {{ theirs }} from {{ source('staging', parent) }}
                    except
                    select {{ theirs }} from {{ api.Relation.create(schema=target.schema, identifier=parent) }}
                ) as named
            {%- endset -%}
            {%- set orphans = run_query(query).rows[0][0] -%}
            {%- if orphans -%}
                {%- do streamflow.keep_shut("rows of " ~ child.name ~ " that name none of " ~ parent ~ " by " ~ key.columns | join(', ') ~ ": " ~ orphans
                    ~ ". Have the files corrected; a `relationships` audit of severity error would list these rows") -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
{% endmacro %}


{% macro keep_shut(reason) %}
    {{ exceptions.raise_compiler_error(
        "the gate stays closed: " ~ reason ~ ". Nothing below it was built. Run `dbt build` without a selection, or `streamflow ingest`."
    ) }}
{% endmacro %}


{#- The audits that refuse a month: tests of severity error that read staging, and nothing that is built after it. -#}
{% macro refusing_audits() %}
    {%- set found = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'test' and node.config.severity | lower == 'error' and streamflow.audited_table(node) -%}
        {%- do found.append(node) -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- The staging table that a test is declared on, or the first one that a singular test names; none where it reads models too. -#}
{% macro audited_table(test) %}
    {%- set named = test.sources | selectattr(0, 'equalto', 'staging') | map('last') | list -%}
    {%- set declared_on = modules.re.search("source\\('staging', '(\\w+)'\\)", test.test_metadata.kwargs.model if test.test_metadata else '') -%}
    {{ return((declared_on.group(1) if declared_on else named[0]) if named and not test.refs else none) }}
{% endmacro %}
