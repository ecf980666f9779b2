{#-
  The gate's pre-hook. dbt skips the gate when an audit that it runs fails; this ends the run where audits were left out (`dbt run`,
  --exclude, a selection, retry), and where staging is not what was audited. Then it undoes what unfinished loads left in history.
-#}
{% macro require_audited_load() %}
    {%- if execute -%}
        {%- set left_out = [] -%}
        {%- for audit in streamflow.audits('error') -%}
            {%- if audit.unique_id not in selected_resources %}{% do left_out.append(audit.name) %}{% endif -%}
            {%- for id in audit.depends_on.nodes if id not in model.depends_on.nodes -%}
                {%- do streamflow.keep_shut("audit " ~ audit.name ~ " reads " ~ id ~ ", and dbt lets the gate wait for an audit only where the gate"
                    ~ " depends on all that it reads: name that source in audited_besides(), macros/audited_besides.sql") -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- if left_out -%}
            {%- do streamflow.keep_shut("audits that are not part of this run: " ~ left_out | length ~ ", " ~ left_out[0] ~ " among them") -%}
        {%- endif -%}
        {%- for row in run_query(streamflow.changed_staging_sql()).rows %}{% do streamflow.keep_shut(row[0]) %}{% endfor -%}
        {%- do streamflow.require_references() -%}
        {%- do streamflow.undo_unfinished_loads() -%}
    {%- endif -%}
{% endmacro %}


{#-
  Ends the run where rows of staging name a row that production will not have: its foreign key would refuse them when history stands
  already, and the month could neither go on nor be given up. A `relationships` audit of severity error has told so before.
-#}
{% macro require_references() %}
    {%- set audited = [] -%}
    {%- for audit in streamflow.audits('error') if audit.test_metadata and audit.test_metadata.name == 'relationships' and not audit.config.where -%}
        {%- do audited.append([streamflow.audited_table(audit), [audit.column_name]]) -%}
    {%- endfor -%}
    {%- set production = graph.nodes.values() | selectattr('config.incremental_strategy', 'equalto', 'newest_wins') | list -%}
    {%- for child in production -%}
        {%- for key in child.constraints if key.type == 'foreign_key' and [child.name, key.columns | list] not in audited -%}
            {%- set name = modules.re.findall('\\w+', key.to) | last -%}
            {%- set parent = production | selectattr('name', 'equalto', name) | first -%}
            {%- set found = run_query(streamflow.orphans_sql(child.name, parent, key)).rows[0] -%}
            {%- if found.orphans -%}
                {%- do streamflow.keep_shut("rows of " ~ child.name ~ " that name none of " ~ parent.name ~ " by " ~ key.columns | join(', ') ~ ": " ~ found.orphans
                    ~ ". Have the files corrected; a `relationships` audit of severity error would list these rows") -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
{% endmacro %}


{#- Row grain: one row. How many rows of a staging table name a row that neither the delivery nor production has. -#}
{% macro orphans_sql(child, parent, key) %}
    {%- set its, theirs = streamflow.quoted(key.columns) | join(', '), streamflow.quoted(key.to_columns) | join(', ') -%}
    select count(*) as orphans
    from (
        select {{ its }} from {{ source('staging', child) }}
        where ({{ its }}) is not null
        except
        select {{ theirs }} from {{ source('staging', parent.name) }}
        except
        select {{ theirs }} from {{ parent.relation_name }}
    ) as named
{% endmacro %}


{% macro keep_shut(reason) %}
    {{ exceptions.raise_compiler_error(
        "the gate stays closed: " ~ reason ~ ". Nothing below it was built. Run `dbt build` without a selection, or `streamflow ingest`."
    ) }}
{% endmacro %}


{#-
  The audits: tests that read staging, and nothing that is built after it. Row grain: one test node; `severity` leaves only those of
  that severity.
-#}
{% macro audits(severity=none) %}
    {%- set found = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'test' and node.sources and streamflow.audited_table(node) -%}
        {%- if severity is none or node.config.severity | lower == severity %}{% do found.append(node) %}{% endif -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- The staging table that a test is declared on, or the first one that a singular test names; none where it reads models too. -#}
{% macro audited_table(test) %}
    {%- set declared_on = modules.re.search("source\\('staging', '(\\w+)'\\)", test.test_metadata.kwargs.model if test.test_metadata else '') -%}
    {%- set named = test.sources | selectattr(0, 'equalto', 'staging') | map('last') | list -%}
    {{ return((declared_on.group(1) if declared_on else named[0]) if named and not test.refs else none) }}
{% endmacro %}


{#- Why staging is not what this run audited; of a published load the server may have lost the rows. Row grain: one reason. -#}
{% macro changed_staging_sql() %}
    select 'staging was landed anew while its audits ran'
    from {{ source('ops', 'runs') }} as runs
    where runs.invocation_id = '{{ invocation_id }}'
        and runs.load_id is distinct from (select max(load_id) from {{ source('ops', 'staged') }})
    {%- for table_name in declared_tables() %}
    union all
    select 'staging.{{ table_name }} does not hold the rows that were landed: land the month again'
    from {{ source('ops', 'staged') }} as staged
    where staged.table_name = '{{ table_name }}'
        and staged.load_id not in (select load_id from {{ source('ops', 'published_loads') }})
        and staged.row_count <> (select count(*) from {{ source('staging', table_name) }})
    {%- endfor %}
{% endmacro %}


{#-
  A load that was cut off before the history of all its tables stood is given up when another one passes: its partitions go, and those
  that it was to replace come back. No reader of published months has seen it, and production has taken nothing of it in. With `as_of`
  it is the load of that date, whatever staging holds.
-#}
{% macro undo_unfinished_loads(as_of=none) %}
    {%- set unfinished = run_query(streamflow.unfinished_history_sql(as_of)).rows -%}
    {%- for row in unfinished -%}
        {%- set parent = api.Relation.create(database=target.database, schema=target.schema, identifier=row.table_name ~ '_snapshots') -%}
        {%- set partition = api.Relation.create(schema='history', identifier=row.partition_name) -%}
        {%- set entry = " where table_name = '" ~ row.table_name ~ "' and as_of = date '" ~ row.as_of ~ "'" -%}
        {%- do run_query('alter table ' ~ parent ~ ' detach partition ' ~ partition) -%}
        {%- do run_query('drop table ' ~ partition) -%}
        {%- do run_query('delete from ops.history' ~ entry) -%}
        {%- if row.kept -%}
            {%- set kept = api.Relation.create(database=target.database, schema='history', identifier=row.kept) -%}
            {%- do run_query('alter table restated.' ~ adapter.quote(row.kept) ~ ' set schema history') -%}
            {%- for column in adapter.get_missing_columns(parent, kept) -%}
                {%- do run_query('alter table ' ~ kept ~ ' add column ' ~ column.quoted ~ ' ' ~ column.data_type) -%}
            {%- endfor -%}
            {%- do run_query('alter table ' ~ parent ~ ' attach partition ' ~ kept ~ " for values in ('" ~ row.as_of ~ "')") -%}
            {%- set this_one = entry ~ ' and load_id = ' ~ row.load_id -%}
            {%- do run_query(
                'insert into ops.history select (jsonb_populate_record(null::ops.history, replaced)).* from ops.restatements' ~ this_one
            ) -%}
            {%- do run_query('delete from ops.restatements' ~ this_one) -%}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{#- A run-operation: `streamflow abandon`, which holds the run lock and has made sure that the month is not whole. -#}
{% macro abandon_month(as_of) %}
    {%- do streamflow.require_settled_cluster() -%}
    {%- do run_query("delete from ops.staged where as_of = date '" ~ as_of ~ "'") -%}
    {%- do streamflow.undo_unfinished_loads(as_of) -%}
    {%- do run_query('commit') -%}
{% endmacro %}


{% macro unfinished_history_sql(as_of=none) %}
    select history.table_name, history.as_of::text as as_of, history.load_id, history.partition_name, restatements.replaced ->> 'partition_name' as kept
    from {{ source('ops', 'history') }} as history
    left join {{ source('ops', 'restatements') }} as restatements
        on restatements.table_name = history.table_name and restatements.as_of = history.as_of and restatements.load_id = history.load_id
    where (history.table_name, history.as_of) not in (select table_name, as_of from {{ source('ops', 'standing_history') }})
        and history.load_id not in (select load_id from {{ source('ops', 'published_loads') }})
        {%- if as_of %}
        and history.as_of = date '{{ as_of }}'
        {%- else %}
        and history.load_id is distinct from (select max(load_id) from {{ source('ops', 'staged') }})
        {%- endif %}
{% endmacro %}
