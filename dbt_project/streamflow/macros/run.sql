{#-
  On-run-start: creates the declared tables that are missing, so that a plain `dbt build` works on an empty database and `\dt` shows
  all tables. Then enters this run in the ledger with the load that staging holds. Raises a compiler error for flags that would leave out
  rows or read other tables, and a database error while an ingest is under way or staging was landed under another declaration.
-#}
{% macro begin_run() %}
    {%- if execute -%}
        {%- if invocation_args_dict.get('favor_state') -%}
            {{ exceptions.raise_compiler_error("production and latest would read other tables than were audited: run dbt without --favor-state") }}
        {%- elif (invocation_args_dict.get('empty') or invocation_args_dict.get('sample')) and streamflow.builds_models() -%}
            {{ exceptions.raise_compiler_error("no model is built from a part of the rows: run dbt without --empty and --sample") }}
        {%- endif -%}
        {%- do streamflow.create_missing_tables() -%}
        {#- ends this run if an ingest is under way: staging may then hold parts of two months, which must not be audited -#}
        {%- if 'model.streamflow.gate' in selected_resources -%}
            {%- do run_query(streamflow.begin_step() ~ "; select ops.require_landed_as_declared(" ~ streamflow.declarations() ~ ")") -%}
        {%- endif -%}
        insert into ops.runs (invocation_id, load_id) select '{{ invocation_id }}', ops.load_in_staging()
        on conflict (invocation_id) do update set load_id = excluded.load_id;
        commit
    {%- endif -%}
{% endmacro %}


{#-
  Creates or updates the schema ops, creates the declared tables that are missing, and adds newly declared columns unless the gate will.
  `streamflow init` also runs this macro, as a run-operation.
-#}
{% macro create_missing_tables() %}
    {%- do streamflow.require_safe_project() -%}
    {%- set ddl = streamflow.ops_ddl() -%}
    {%- set stamp = local_md5(ddl) -%}
    {%- if run_query("select obj_description(to_regclass('ops.loads'), 'pg_class') is distinct from '" ~ stamp ~ "'").rows[0][0] -%}
        {%- do run_query(ddl ~ "comment on table ops.loads is '" ~ stamp ~ "'") -%}
        {%- do adapter.cache_added(api.Relation.create(target.database, 'ops', 'published', type='table')) -%}
    {%- endif -%}
    {#- in a run with the gate, the gate adds columns after the audits have passed; a run without models does not change the tables -#}
    {%- set adds_columns = 'model.streamflow.gate' not in selected_resources and (not selected_resources or streamflow.builds_models()) -%}
    {%- set follow = "select ops.follow_declaration(" ~ streamflow.declarations() ~ ", " ~ adds_columns ~ ")" -%}
    {%- set created = run_query(follow).columns[0].values() -%}
    {%- for model, _ in streamflow.declared_models() if model.relation_name in created -%}
        {%- set relation = api.Relation.create(model.database, model.schema, model.alias, type='table') -%}
        {%- do run_query(alter_relation_comment(relation, model.description)) -%}
        {%- do run_query(alter_column_comment(relation, model.columns)) -%}
        {%- do adapter.cache_added(relation) -%}
    {%- endfor -%}
    {%- do run_query('commit') -%}
{% endmacro %}


{#- Whether this run builds a model. -#}
{% macro builds_models() %}{{ return(' model.' in ' ' ~ selected_resources | join(' ')) }}{% endmacro %}


{#- The incremental strategies of this package, and the kind of table that each one fills. -#}
{% macro strategies() %}{{ return({'as_of_partition': 'history', 'newest_wins': 'production'}) }}{% endmacro %}


{#- The models of the declared tables, whatever their config, as a list of [model, kind of table]. -#}
{% macro declared_models() %}
    {%- set kinds, found = {}, [] -%}
    {%- for name in declared_tables() %}{% do kinds.update({name ~ '_snapshots': 'history', name: 'production'}) %}{% endfor -%}
    {%- for model in graph.nodes.values() if model.resource_type == 'model' and model.package_name == project_name and model.name in kinds -%}
        {%- do found.append([model, kinds[model.name]]) -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- All tables of staging, history and production, as the jsonb that ops.follow_declaration expects. -#}
{% macro declarations() %}
    {%- set declared = [] -%}
    {%- for staged in graph.sources.values() if streamflow.is_staged(staged.source_name, staged.name) and staged.package_name == project_name -%}
        {%- do declared.append(streamflow.declaration(staged, 'staging', staged.config.meta.primary_key)) -%}
    {%- endfor -%}
    {%- for model, kind in streamflow.declared_models() -%}
        {%- do declared.append(streamflow.declaration(model, kind, model.config.unique_key)) -%}
    {%- endfor -%}
    {{ return(streamflow.as_json(declared)) }}
{% endmacro %}


{#- An entry of declarations() for a source or a model. -#}
{% macro declaration(node, kind, key) %}
    {%- set columns = [] -%}
    {%- for column in node.columns.values() -%}
        {%- set required = column.constraints | selectattr('type', 'equalto', 'not_null') | list | length > 0 -%}
        {%- do columns.append({'name': column.name, 'type': column.data_type, 'required': required}) -%}
    {%- endfor -%}
    {{ return({
        'name': node.relation_name, 'kind': kind, 'columns': columns, 'key': [key] if key is string else key,
        'constraints': node.constraints or [],
    }) }}
{% endmacro %}


{#- The first statement of every step that writes: no month can land until its transaction ends. Locks `relation` if it is given. -#}
{% macro begin_step(relation=none) -%}
    select ops.begin_step('{{ invocation_id }}'{{ ", '" ~ relation ~ "'" if relation }})
{%- endmacro %}
