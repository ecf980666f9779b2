{#-
  What a project must not do, because a run would then harm history or production. on-run-start and `streamflow init` call
  require_safe_project before they change anything. It raises a compiler error that says what to change in the project.
-#}

{% macro require_safe_project() %}
    {%- if declared_tables is not defined -%}
        {{ exceptions.raise_compiler_error("streamflow's macros work only in a project that `streamflow new` made, and not as a package of another") }}
    {%- endif -%}
    {%- if target.schema != 'public' -%}
        {{ exceptions.raise_compiler_error(
            "this profile's schema is " ~ target.schema ~ ", and streamflow keeps one set of tables per database, in schema public."
            ~ " For a copy of your own use another database: set schema to public and POSTGRES_DB to a name like"
            ~ " streamflow_" ~ target.schema ~ ", and ingest there. Models of your own go to another schema by their config."
        ) }}
    {%- endif -%}
    {%- set declared = [] -%}
    {%- for model, kind in streamflow.declared_models() -%}
        {%- do streamflow.require_guards(model, kind) -%}
        {%- do declared.append(model.unique_id) -%}
    {%- endfor -%}
    {%- do streamflow.require_own_settings() -%}
    {%- for staged in graph.sources.values() if streamflow.is_staged(staged.source_name, staged.name)
        and staged.package_name == project_name and (staged.schema, staged.identifier) != ('staging', staged.name) -%}
        {{ exceptions.raise_compiler_error(
            "staging." ~ staged.name ~ ", where a month lands, would be read from " ~ staged.schema ~ "." ~ staged.identifier
            ~ ": take that schema or identifier out of models/staging/_sources.yml. Nothing was changed."
        ) }}
    {%- endfor -%}
    {#- dbt configures an analysis and a hook as views too, and makes none of them -#}
    {%- for node in graph.nodes.values() if node.resource_type in ['model', 'test'] -%}
        {%- if (node.config.store_failures_as or node.config.materialized) in ['view', 'materialized_view'] -%}
            {%- do streamflow.require_no_staging(node, node) -%}
        {%- elif node.config.materialized == 'incremental' and node.config.incremental_strategy in streamflow.strategies()
            and node.unique_id not in declared -%}
            {{ exceptions.raise_compiler_error(
                node.name ~ " would be built like a declared table, but is not declared: move it to a folder of your own in models/. Nothing was"
                ~ " changed."
            ) }}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{#- History and production are safe only with these settings, which are in the dbt_project.yml that the project's owner edits. -#}
{% macro require_guards(model, kind) %}
    {%- set config = model.config -%}
    {%- if config.materialized != 'incremental' or streamflow.strategies().get(config.incremental_strategy) != kind
        or config.full_refresh is not sameas false or not config.contract.enforced or not config.unique_key -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " lacks a setting that guards history and production. In dbt_project.yml, under the name of your project, set for"
            ~ " both folders +materialized: incremental, +full_refresh: false, +contract: {enforced: true}, and +incremental_strategy:"
            ~ " as_of_partition for history, newest_wins for production; the model and its YAML must have a unique_key, and"
            ~ " not set these otherwise. Nothing was changed."
        ) }}
    {%- endif -%}
    {%- for called in [
        adapter.dispatch('can_clone_table', 'dbt'), adapter.dispatch('create_table_as', 'dbt'), adapter.dispatch('get_test_sql', 'dbt'),
        adapter.dispatch('process_schema_changes', 'dbt'),
    ] if called.macro.package_name != 'streamflow' -%}
        {{ exceptions.raise_compiler_error(
            "history and production need the " ~ called.macro.name ~ " of streamflow, and dbt would call that of " ~ called.macro.package_name
            ~ ": in dbt_project.yml, under dispatch, list streamflow before dbt, and have no macro of that name. Nothing was changed."
        ) }}
    {%- endfor -%}
    {%- do streamflow.require_place(model, target.schema) -%}
    {%- for key in model.constraints if key.type == 'foreign_key'
        and modules.re.split('\\W+', (key.to or '').strip('"\')( '))[-1] not in declared_tables() -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " has a foreign key without `to`, the ref() of a declared table. A key to another table belongs in psql, where it"
            ~ " stays. Nothing was changed."
        ) }}
    {%- endfor -%}
    {%- for column in model.columns.values() if column.name != column.name | lower and not column.quote -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ "." ~ column.name ~ " needs `quote: true` and double quotes in the model's SQL, or a name in lower case. Nothing was changed."
        ) }}
    {%- endfor -%}
    {%- set ignored = (model.constraints | map(attribute='type') | reject('in', ['primary_key', 'foreign_key']) | list)
        + (['index'] if model.config.indexes else []) -%}
    {%- set required = ['as_of', 'observed_as_of'] + ([config.unique_key] if config.unique_key is string else config.unique_key) -%}
    {%- for column in model.columns.values() -%}
        {%- for constraint in column.constraints if constraint.type != 'not_null' or column.name not in required -%}
            {%- do ignored.append(column.name ~ ' ' ~ constraint.type) -%}
        {%- endfor -%}
    {%- endfor -%}
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
            model.name ~ " would be " ~ model.schema ~ "." ~ model.alias ~ ", where streamflow does not look. Take alias, schema and"
            ~ " versions out of the model, and in dbt_project.yml move a schema for all models under the name of your project. Macros of"
            ~ " yours, generate_schema_name and generate_alias_name, have to return, for streamflow's models and those in models/history,"
            ~ " production and marts, the schema of their config and their name. Nothing was changed."
        ) }}
    {%- endif -%}
{% endmacro %}


{#- Each month recreates the staging tables, and PostgreSQL does not drop a table that `view` reads, itself or by an ephemeral model. -#}
{% macro require_no_staging(node, view) %}
    {%- for id in node.depends_on.nodes if id in graph.nodes and graph.nodes[id].config.materialized == 'ephemeral' -%}
        {%- do streamflow.require_no_staging(graph.nodes[id], view) -%}
    {%- endfor -%}
    {%- for source_name, table_name in node.sources if streamflow.is_staged(source_name, table_name) -%}
        {{ exceptions.raise_compiler_error(
            view.name ~ " is a view on staging." ~ table_name ~ ", which every month recreates: have it "
            ~ ("store its failures as a table" if view.resource_type == 'test' else "read ref('latest_" ~ table_name ~ "'), or be a table")
            ~ ". Nothing was changed."
        ) }}
    {%- endfor -%}
{% endmacro %}
