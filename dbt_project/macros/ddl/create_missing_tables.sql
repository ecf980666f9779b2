{#-
  The DDL for every declared table and column that the database lacks; an empty string, and one catalog query, when nothing
  is missing. Runs as on-run-start, so that a plain `dbt build` on an empty database works and `\dt` shows all tables.
-#}
{% macro create_missing_tables(materialized=['history', 'publish', 'production']) %}
    {%- if execute -%}
        {%- do hold_run_lock() -%}
        {%- set existing = columns_in_database() -%}
        {%- set models = [] -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.config.materialized in materialized -%}
            {%- do models.append(node) -%}
        {%- endfor -%}
        {%- if 'ops.history' not in existing %}{{ ops_ddl() }}{% endif -%}
        {%- for model in models if model.config.materialized == 'history' and model.schema ~ '.' ~ model.alias not in existing -%}
            {%- if loop.first %}{{ schema_ddl(history_schema()) }}{% endif -%}
        {%- endfor -%}
        {%- for source in graph.sources.values() if source.source_name == 'staging' and 'staging.' ~ source.identifier not in existing %}
            {{ staging_ddl(source.identifier, source.columns.values()) }}
            {{ on_engine('number_rows')(source.identifier) }}
            {{ on_engine('distribute')(source.relation_name, source.config.meta.primary_key) }}
        {%- endfor -%}
        {%- for model in models %}{{ missing_model_ddl(model, existing.get(model.schema ~ '.' ~ model.alias)) }}{% endfor -%}
        {%- for model in models if model.schema ~ '.' ~ model.alias not in existing %}{{ foreign_key_ddl(model) }}{% endfor -%}
    {%- endif -%}
{% endmacro %}


{#- {'schema.table': {column: type}} of the schemas that this project writes. -#}
{% macro columns_in_database() %}
    {%- set rows = run_query(
        "select n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
        " from pg_class as c join pg_namespace as n on n.oid = c.relnamespace"
        " join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where c.relkind in ('r', 'p') and n.nspname in ('ops', 'staging', 'public')"
    ) -%}
    {%- set existing = {} -%}
    {%- for row in rows.rows -%}
        {%- do existing.setdefault(row[0], {}).update({row[1]: row[2]}) -%}
    {%- endfor -%}
    {{ return(existing) }}
{% endmacro %}


{#-
  create table, or one alter table per column that was declared later; columns_there is none where the table is new. Every row of
  production is written anew each month: half of each page is left free, so that this needs no new index entries.
-#}
{% macro missing_model_ddl(model, columns_there) %}
    {%- set relation = api.Relation.create(database=model.database, schema=model.schema, identifier=model.alias) -%}
    {%- if columns_there is none %}
        create table {{ relation }} (
            {%- for column in model.columns.values() %}
            {{ adapter.quote(column.name) }} {{ column.data_type }}
                {%- if column.constraints | selectattr('type', 'equalto', 'not_null') | list %} not null{% endif %}
                {{- ',' if not loop.last }}
            {%- endfor %}
            {%- for key in model.constraints | selectattr('type', 'equalto', 'primary_key') %},
            primary key ({{ key.columns | map('tojson') | join(', ') }})
            {%- endfor %}
        ) {%- if model.config.materialized == 'history' %} partition by list (as_of)
        {%- elif model.config.materialized == 'production' %} with (fillfactor = 48){% endif %};
        {%- if model.config.materialized in ['history', 'production'] %}
            {{ on_engine('distribute')(relation, key_column(model)) }}
        {%- endif %}
        {%- if model.config.materialized == 'history' %}
            {{ immutable_ddl(relation) }}
        {%- endif %}
        {{ comment_ddl(relation, model) }}
    {%- else %}
        {%- for name in columns_there if name not in model.columns %}
            {{ exceptions.raise_compiler_error(
                relation ~ " has a column " ~ name ~ " that is no longer declared. History keeps what it knew: declare the"
                " column again, with config.meta.optional where files lack it."
            ) }}
        {%- endfor %}
        {%- for column in model.columns.values() if column.name not in columns_there %}
        {%- call ddl() %}
            alter table {{ relation }} add column {{ adapter.quote(column.name) }} {{ column.data_type }}
        {% endcall %}
        {%- endfor %}
    {%- endif %}
{% endmacro %}


{#- Deleting a customer takes his rows in the other tables along: a rebuild must be able to take out a row that history lacks. -#}
{% macro foreign_key_ddl(model) %}
    {%- for parent in [model.config.meta.get('references')] if parent and model.config.materialized == 'production' %}
        {%- set key = (model.constraints | selectattr('type', 'equalto', 'primary_key') | first).columns | map('tojson') | join(', ') %}
        {%- call ddl() %}
            alter table {{ api.Relation.create(database=model.database, schema=model.schema, identifier=model.alias) }}
                add foreign key ({{ key }})
                references {{ api.Relation.create(database=model.database, schema=model.schema, identifier=parent) }} on delete cascade
        {% endcall %}
    {%- endfor %}
{% endmacro %}


{#-
  Rows of history come and stay: a partition is filled before it gets these triggers and is attached. There are two since a
  trigger for TRUNCATE among others would be known to the coordinator of a cluster only.
-#}
{% macro immutable_ddl(relation) %}
    {{ on_engine('allow_trigger')() }}
    {%- call ddl() %}
        create trigger history_is_immutable before insert or update or delete on {{ relation }}
            for each statement execute function ops.refuse_change()
    {% endcall %}
    {%- call ddl() %}
        create trigger history_is_not_truncated before truncate on {{ relation }}
            for each statement execute function ops.refuse_change()
    {% endcall %}
{% endmacro %}


{% macro comment_ddl(relation, model) %}
    comment on table {{ relation }} is {{ dbt.string_literal(dbt.escape_single_quotes(model.description)) }};
    {%- for column in model.columns.values() if column.description %}
    comment on column {{ relation }}.{{ adapter.quote(column.name) }} is {{ dbt.string_literal(dbt.escape_single_quotes(column.description)) }};
    {%- endfor %}
{% endmacro %}


{#- For `streamflow init`: the same, and the gate, which a run makes itself. -#}
{% macro init() %}
    {%- set ddl = create_missing_tables(['history', 'publish', 'production', 'table']) -%}
    {%- if ddl | trim %}{% do run_query(ddl ~ '; commit') %}{% endif -%}
{% endmacro %}
