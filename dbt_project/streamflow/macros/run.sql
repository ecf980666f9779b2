{#-
  On-run-start: creates the declared tables that are missing, so that a plain `dbt build` works on an empty database and `\dt` shows
  all tables. Then enters this run in the ledger with the load that staging holds.
-#}
{% macro begin_run() %}
    {%- if execute -%}
        {%- if invocation_args_dict.get('favor_state') -%}
            {{ exceptions.raise_compiler_error("production and latest would read other tables than were audited: run dbt without --favor-state") }}
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


{#- `streamflow init` also runs this macro, as a run-operation. -#}
{% macro create_missing_tables() %}
    {%- if target.schema != 'public' -%}
        {{ exceptions.raise_compiler_error(
            "this profile's schema is " ~ target.schema ~ ", and streamflow keeps one set of tables per database, in schema public."
            ~ " For a copy of your own use another database: set schema to public and POSTGRES_DB to a name like"
            ~ " streamflow_" ~ target.schema ~ ", and ingest there. Models of your own go to another schema by their config."
        ) }}
    {%- endif -%}
    {%- set relations = {} -%}
    {%- for model in graph.nodes.values() if model.config.get('incremental_strategy') in streamflow.strategies() -%}
        {%- do streamflow.require_guards(model) -%}
        {%- do relations.update({model.relation_name: model}) -%}
    {%- endfor -%}
    {%- do streamflow.require_own_settings() -%}
    {%- for node in graph.nodes.values() if (node.config.store_failures_as or node.config.materialized) in ['view', 'materialized_view'] -%}
        {%- do streamflow.require_no_staging(node) -%}
    {%- endfor -%}
    {%- set ddl = streamflow.ops_ddl() -%}
    {%- set stamp = local_md5(ddl) -%}
    {%- if run_query("select obj_description(to_regclass('ops.loads'), 'pg_class') is distinct from '" ~ stamp ~ "'").rows[0][0] -%}
        {%- do run_query(ddl ~ "comment on table ops.loads is '" ~ stamp ~ "'") -%}
        {%- do adapter.cache_added(api.Relation.create(target.database, 'ops', 'published', type='table')) -%}
    {%- endif -%}
    {#- a run of audits alone adds no columns; in a run with the gate, the gate adds them after the audits have passed -#}
    {%- set adds_columns = 'model.streamflow.gate' not in selected_resources and not streamflow.audits_alone() -%}
    {%- set follow = "select ops.follow_declaration(" ~ streamflow.declarations() ~ ", " ~ adds_columns ~ ")" -%}
    {%- for created in run_query(follow).columns[0].values() if created in relations -%}
        {%- set model = relations[created] -%}
        {%- set relation = api.Relation.create(model.database, model.schema, model.alias, type='table') -%}
        {%- do run_query(alter_relation_comment(relation, model.description)) -%}
        {%- do run_query(alter_column_comment(relation, model.columns)) -%}
        {%- do adapter.cache_added(relation) -%}
    {%- endfor -%}
    {%- do run_query('commit') -%}
{% endmacro %}


{#- Whether this run consists only of audits, with or without seeds. -#}
{% macro audits_alone() %}
    {%- set audits, others = streamflow.audits() | map(attribute='unique_id') | list, [] -%}
    {%- for id in selected_resources if id not in audits and not id.startswith('seed.') %}{% do others.append(id) %}{% endfor -%}
    {{ return(selected_resources and not others) }}
{% endmacro %}


{#- The incremental strategies of this package, and the kind of table that each one fills. -#}
{% macro strategies() %}{{ return({'as_of_partition': 'history', 'newest_wins': 'production'}) }}{% endmacro %}


{#- All tables of staging, history and production, as the jsonb that ops.follow_declaration expects. -#}
{% macro declarations() %}
    {%- set declared = [] -%}
    {%- for staged in graph.sources.values() if staged.source_name == 'staging' -%}
        {%- do declared.append(streamflow.declaration(staged, 'staging', staged.config.meta.primary_key)) -%}
    {%- endfor -%}
    {%- for model in graph.nodes.values() if model.config.get('incremental_strategy') in streamflow.strategies() -%}
        {%- do declared.append(streamflow.declaration(model, streamflow.strategies()[model.config.incremental_strategy], model.config.unique_key)) -%}
    {%- endfor -%}
    {{ return(streamflow.as_json(declared)) }}
{% endmacro %}


{#- One of them, a source or a model. -#}
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


{#- History and production are safe only with these settings, which are in the dbt_project.yml that the project's owner edits. -#}
{% macro require_guards(model) %}
    {%- set overrides_are_found = adapter.dispatch('can_clone_table', 'dbt').macro.package_name != 'dbt' -%}
    {%- if model.config.full_refresh is not sameas false or not model.config.contract.enforced or not overrides_are_found -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " lacks a setting that guards history and production. In dbt_project.yml, set +full_refresh: false and"
            ~ " +contract: {enforced: true} for both folders, and under dispatch list streamflow before dbt. Nothing was changed."
        ) }}
    {%- endif -%}
    {%- do streamflow.require_place(model, target.schema) -%}
    {%- set ignored = (model.constraints | map(attribute='type') | reject('in', ['primary_key', 'foreign_key']) | list)
        + (model.columns.values() | map(attribute='constraints') | sum(start=[]) | map(attribute='type') | reject('equalto', 'not_null') | list)
        + (['index'] if model.config.indexes else []) -%}
    {%- if ignored -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " declares: " ~ ignored | join(', ') ~ ". dbt creates these with a table, and this table stays: create them in psql,"
            ~ " where they stay too, and take them out of the model. Nothing was changed."
        ) }}
    {%- endif -%}
{% endmacro %}


{#- A setting that a project makes for all models also overrides the settings of this package's models. -#}
{% macro require_own_settings() %}
    {%- set own = {
        'gate': {'materialized': 'table'},
        'complete_months': {'materialized': 'view'},
        'published': {'materialized': 'incremental', 'incremental_strategy': 'append', 'full_refresh': false, 'unlogged': none},
    } -%}
    {%- for name, settings in own.items() -%}
        {%- set model = graph.nodes['model.streamflow.' ~ name] -%}
        {%- do streamflow.require_place(model, 'ops') -%}
        {%- for setting, value in settings.items() if model.config.get(setting) != value -%}
            {{ exceptions.raise_compiler_error(
                name ~ " of streamflow would be configured with " ~ setting ~ ": " ~ model.config.get(setting) ~ ". In dbt_project.yml, move"
                ~ " settings for all models under the name of your project. Nothing was changed."
            ) }}
        {%- endfor -%}
    {%- endfor -%}
{% endmacro %}


{#- The loader and the ledger find a model's table by the model's schema and name. -#}
{% macro require_place(model, schema) %}
    {%- if model.schema != schema or model.alias != model.name -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " would be " ~ model.schema ~ "." ~ model.alias ~ ", where streamflow does not look. In dbt_project.yml, move"
            ~ " a schema for all models under the name of your project. Macros of yours, generate_schema_name and generate_alias_name, have"
            ~ " to return, for streamflow's models and those in models/history, production and marts, the schema of their config and their"
            ~ " name. Nothing was changed."
        ) }}
    {%- endif -%}
{% endmacro %}


{#- Each month recreates the staging tables, and PostgreSQL does not drop a table that a view reads. -#}
{% macro require_no_staging(node) %}
    {%- for source_name, table_name in node.sources if source_name == 'staging' -%}
        {{ exceptions.raise_compiler_error(
            node.name ~ " is a view on staging." ~ table_name ~ ", which every month recreates: have it "
            ~ ("store its failures as a table" if node.resource_type == 'test' else "read ref('latest_" ~ table_name ~ "'), or be a table")
            ~ ". Nothing was changed."
        ) }}
    {%- endfor -%}
{% endmacro %}


{#-
  The first statement of every step that writes. No month can land until the step's transaction ends. Refuses runs with --empty or
  --sample, which leave rows out, and locks `relation` if it is given.
-#}
{% macro begin_step(relation=none) %}
    {%- if execute and (invocation_args_dict.get('empty') or invocation_args_dict.get('sample')) -%}
        {{ exceptions.raise_compiler_error("nothing is written from rows that are left out: run dbt without --empty and --sample") }}
    {%- endif -%}
    select ops.begin_step('{{ invocation_id }}'{{ ", '" ~ relation ~ "'" if relation }})
{%- endmacro %}
