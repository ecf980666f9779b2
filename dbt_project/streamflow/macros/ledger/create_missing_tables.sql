{#-
  On-run-start: creates what is declared and not there yet, so that a plain `dbt build` works on an empty database and `\dt` shows
  all twelve tables; then enters this run in the ledger with the load that staging holds. Two catalog queries when nothing is missing.
-#}
{% macro begin_run() %}
    {%- if execute -%}
        {%- do streamflow.create_missing_tables() -%}
        {%- do run_query(
            "insert into ops.runs (invocation_id, load_id) select '" ~ invocation_id ~ "', max(load_id) from ops.staged"
            ~ " on conflict (invocation_id) do update set load_id = excluded.load_id; commit"
        ) -%}
    {%- endif -%}
{% endmacro %}


{#- Also a run-operation: `streamflow init`. -#}
{% macro create_missing_tables() %}
    {%- do streamflow.require_schema_public() -%}
    {%- do streamflow.require_utf8() -%}
    {%- set existing, keys = streamflow.columns_in_database(), streamflow.keys_in_database() -%}
    {%- if 'ops.loads' in existing and 'ops.waivers' not in existing -%}
        {{ exceptions.raise_compiler_error(
            "this database was made by an earlier version of streamflow, which kept another ledger: use a new database"
        ) }}
    {%- endif -%}
    {%- if 'ops.published' not in existing -%}
        {%- do run_query(streamflow.ops_ddl()) -%}
        {%- do adapter.cache_added(api.Relation.create(target.database, 'ops', 'published', type='table')) -%}
    {%- endif -%}
    {%- for staged in graph.sources.values() if staged.source_name == 'staging' and 'staging.' ~ staged.identifier not in existing -%}
        {%- do run_query(streamflow.staging_ddl(staged.identifier, staged.columns.values())) -%}
        {%- do run_query(streamflow.spread_over_nodes(staged.relation_name, staged.config.meta.primary_key, is_staging=true)) -%}
    {%- endfor -%}
    {%- for model in graph.nodes.values() if model.config.get('incremental_strategy') in ['as_of_partition', 'newest_wins'] -%}
        {%- do streamflow.require_guards(model) -%}
        {%- set columns = existing.get(model.schema ~ '.' ~ model.alias) -%}
        {%- if columns -%}
            {%- do streamflow.require_declared_columns(model, columns) -%}
            {%- do streamflow.require_declared_key(model, keys.get(model.schema ~ '.' ~ model.alias)) -%}
            {%- do streamflow.add_declared_columns(model, columns) -%}
        {%- else -%}
            {%- do streamflow.create_table_of(model) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do run_query('commit') -%}
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


{#- {'schema.table': 'column, column'} of the primary keys in schema public. -#}
{% macro keys_in_database() %}
    {%- set rows = run_query(
        "select 'public.' || c.relname, string_agg(a.attname, ', ' order by part.place)"
        " from pg_index as i join pg_class as c on c.oid = i.indrelid and c.relnamespace = 'public'::regnamespace"
        " cross join unnest(i.indkey) with ordinality as part (number, place)"
        " join pg_attribute as a on a.attrelid = c.oid and a.attnum = part.number"
        " where i.indisprimary group by c.oid, c.relname"
    ).rows -%}
    {%- set keys = {} -%}
    {%- for row in rows %}{% do keys.update({row[0]: row[1]}) %}{% endfor -%}
    {{ return(keys) }}
{% endmacro %}


{#-
  An empty table of history or production, which dbt's `incremental` then finds. History is partitioned by as_of. Production gets its
  keys after its first rows (finish_merge); half of each page is left free, as every row is written anew each month.
-#}
{% macro create_table_of(model) %}
    {%- set is_history = model.config.incremental_strategy == 'as_of_partition' -%}
    {%- set relation = api.Relation.create(database=model.database, schema=model.schema, identifier=model.alias, type='table') -%}
    {%- set unique_key = model.config.unique_key -%}
    {%- set columns = [] -%}
    {%- for column in model.columns.values() -%}
        {%- do columns.append(
            adapter.quote(column.name) ~ ' ' ~ column.data_type
            ~ (' not null' if column.constraints | selectattr('type', 'equalto', 'not_null') | list else '')
        ) -%}
    {%- endfor -%}
    {%- if is_history -%}
        {%- do columns.append('primary key (' ~ streamflow.quoted(unique_key) | join(', ') ~ ')') -%}
    {%- endif -%}
    {%- do run_query(
        'create table ' ~ relation ~ ' (' ~ columns | join(', ') ~ ')'
        ~ (' partition by list (as_of)' if is_history else ' with (fillfactor = 48)')
    ) -%}
    {%- do run_query(streamflow.spread_over_nodes(relation, unique_key)) -%}
    {%- if is_history %}{% do run_query("select ops.make_immutable('" ~ relation ~ "')") %}{% endif -%}
    {%- do run_query(alter_relation_comment(relation, model.description)) -%}
    {%- do run_query(alter_column_comment(relation, model.columns)) -%}
    {%- do adapter.cache_added(relation) -%}
{% endmacro %}


{#- What a project's dbt_project.yml says of history and production is the project's own, and the promises rest on it. -#}
{% macro require_guards(model) %}
    {%- set config = model.config -%}
    {%- set before, after = config['pre-hook'] | map(attribute='sql') | join, config['post-hook'] | map(attribute='sql') | join -%}
    {%- set is_whole = 'streamflow.begin_step' in before and 'lock table' in before and config.full_refresh is sameas false and config.contract.enforced
        and (config.incremental_strategy == 'as_of_partition' or 'streamflow.finish_merge' in after) -%}
    {%- if not is_whole or adapter.dispatch('can_clone_table', 'dbt').macro.package_name == 'dbt' -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " lacks what history and production are guarded by: dbt_project.yml has to say of their folders +full_refresh: false,"
            ~ " +contract: {enforced: true}, and the hooks that `streamflow new` writes; and under dispatch that dbt's macros are looked for in"
            ~ " streamflow too. Nothing was changed."
        ) }}
    {%- endif -%}
{% endmacro %}


{#- Adds the columns that were declared later. dbt would do so too, but after history has read its own table. -#}
{% macro add_declared_columns(model, columns) %}
    {%- for column in model.columns.values() if column.name not in columns -%}
        {%- do run_query(
            'alter table ' ~ api.Relation.create(database=model.database, schema=model.schema, identifier=model.alias)
            ~ ' add column ' ~ adapter.quote(column.name) ~ ' ' ~ column.data_type
        ) -%}
    {%- endfor -%}
{% endmacro %}


{#- Ends the run where a table is not as it is declared, before a row is written. -#}
{% macro require_declared_columns(model, columns) %}
    {%- for name in columns if name not in model.columns -%}
        {{ exceptions.raise_compiler_error(
            model.alias ~ " has a column " ~ name ~ " that is no longer declared, and history keeps what it knew: declare it again, with"
            ~ " `retired: true` in its config.meta; or `streamflow migrate`, where it has another name now. Nothing was changed."
        ) }}
    {%- endfor -%}
    {%- for column in model.columns.values() if column.name in columns -%}
        {%- set declared = {'int': 'integer', 'timestamptz': 'timestamp with time zone'}.get(column.data_type, column.data_type) -%}
        {%- if columns[column.name] != declared -%}
            {{ exceptions.raise_compiler_error(
                model.alias ~ "." ~ column.name ~ " is declared as " ~ declared ~ ", and the table has " ~ columns[column.name]
                ~ ": `streamflow migrate` changes a column of the delivery, or says why it cannot; declare one of your own as "
                ~ columns[column.name] ~ " again. Nothing was changed."
            ) }}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{#- Ends the run where a table has another key than declared; production has none until its first rows. -#}
{% macro require_declared_key(model, key) %}
    {%- set unique_key = model.config.unique_key -%}
    {%- set declared = unique_key if unique_key is string else unique_key | join(', ') -%}
    {%- if key and key != declared -%}
        {{ exceptions.raise_compiler_error(
            model.alias ~ " has the key " ~ key ~ ", and is declared with " ~ declared ~ ": declare its primary_key as it was."
            ~ " History keeps its keys. Nothing was changed."
        ) }}
    {%- endif -%}
{% endmacro %}


{#- One set of tables per database: ledger, staging and history are shared, so a copy in another schema could not be kept apart. -#}
{% macro require_schema_public() %}
    {%- if target.schema != 'public' -%}
        {{ exceptions.raise_compiler_error(
            "this profile's schema is " ~ target.schema ~ ", and streamflow keeps one set of tables per database, in schema public."
            ~ " For a copy of your own use another database: set schema to public and POSTGRES_DB to a name like"
            ~ " streamflow_" ~ target.schema ~ ", and ingest there. Models of your own go to another schema by their config."
        ) }}
    {%- endif -%}
{% endmacro %}


{#- Files are UTF-8, and a database of another encoding cannot hold every character. -#}
{% macro require_utf8() %}
    {%- set encoding = run_query("select current_setting('server_encoding')").rows[0][0] -%}
    {%- if encoding != 'UTF8' -%}
        {{ exceptions.raise_compiler_error(
            "the database " ~ target.database ~ " holds " ~ encoding ~ ", and files are UTF-8: make another one, `create database"
            ~ " streamflow_utf8 encoding 'UTF8' template template0`, and name it in POSTGRES_DB"
        ) }}
    {%- endif -%}
{% endmacro %}
