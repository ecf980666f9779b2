{#-
  The incremental strategy of history. The rows that the model selects become a partition of their own: filled, keyed, attached,
  guarded by triggers, and entered in ops.history with a checksum. That is several times faster than inserting under the primary key,
  and does not slow down as history grows. A partition that stands is never touched, unless the load restates its month.
-#}
{% macro get_incremental_as_of_partition_sql(arguments) %}
    {%- set parent = arguments.target_relation -%}
    {%- set table_name = parent.identifier.removesuffix('_snapshots') -%}
    {%- set build = streamflow.history_to_build(table_name) -%}
    {%- if not build -%}
        {{ return("select 'the history of this month stands, or nothing passed the gate' as nothing_to_do") }}
    {%- endif -%}
    {%- set partition = api.Relation.create(
        database=parent.database, schema='history',
        identifier=table_name ~ '_' ~ build.as_of | replace('-', '_') ~ ('_load_' ~ build.load_id if build.replaces else '')
    ) -%}
    {%- set rows = run_query(streamflow.fill_partition(partition, parent, arguments)).rows[0] -%}
    {%- do streamflow.require_delivery(rows.delivered, build) -%}
    {%- if build.replaces %}{% do streamflow.keep_replaced_partition(parent, table_name, build) %}{% endif -%}
    select ops.attach_partition(
        '{{ parent }}', '{{ partition }}', '{{ streamflow.quoted(arguments.unique_key) | join(', ') }}', '{{ build.as_of }}'
    );
    insert into ops.history
        (table_name, as_of, load_id, rows_delivered, rows_total, partition_name, checksum, checksum_columns)
    select
        '{{ table_name }}', date '{{ build.as_of }}', {{ build.load_id }}, {{ rows.delivered }}, {{ rows.total }},
        '{{ partition.identifier }}', ops.checksum('{{ partition }}', checksum_columns), checksum_columns
    from (select array['{{ model.columns | join("', '") }}'] as checksum_columns) as covered
{% endmacro %}


{#-
  The load whose history of a table is to be built: load_id, as_of, rows_delivered, and the partition that it replaces, where it
  restates the month from another file. None where nothing passed the gate, or the history of that date stands.
-#}
{% macro history_to_build(table_name) %}
    {%- set query -%}
        select
            staged.load_id,
            staged.as_of::text as as_of,
            staged.row_count as rows_delivered,
            standing.partition_name as replaces
        from {{ source('ops', 'staged') }} as staged
        inner join {{ ref('gate') }} as gate on gate.load_id = staged.load_id
        inner join {{ source('ops', 'landed_files') }} as files
            on files.load_id = staged.load_id and files.table_name = staged.table_name
        left join {{ source('ops', 'history') }} as standing
            on standing.table_name = staged.table_name and standing.as_of = staged.as_of
        left join {{ source('ops', 'landed_files') }} as built_from
            on built_from.load_id = standing.load_id and built_from.table_name = standing.table_name
        where
            staged.table_name = '{{ table_name }}'
            and (standing.load_id is null or (files.restates and built_from.sha256 <> files.sha256))
    {%- endset -%}
    {%- set found = run_query(query).rows -%}
    {{ return(found[0] if found else none) }}
{% endmacro %}


{#- Fills a table that is not history yet. Row grain of what it selects: one row, how many rows it has and the month delivered. -#}
{% macro fill_partition(partition, parent, arguments) %}
    {%- set columns = streamflow.quoted(model.columns) | join(', ') -%}
    create table {{ partition }} (like {{ parent }});
    {{ streamflow.spread_over_nodes(partition, arguments.unique_key) }};
    insert into {{ partition }} ({{ columns }}) select {{ columns }} from {{ arguments.temp_relation }};
    select count(*) as total, count(*) filter (where observed_as_of = as_of) as delivered from {{ partition }}
{% endmacro %}


{#- Ends the run where the rows are not those that were landed and audited. -#}
{% macro require_delivery(rows_delivered, build) %}
    {%- if rows_delivered != build.rows_delivered -%}
        {{ exceptions.raise_compiler_error(
            this.identifier ~ " would get " ~ rows_delivered ~ " delivered rows of " ~ build.as_of ~ ", and " ~ build.rows_delivered
            ~ " were landed: does the model leave rows out, or was staging changed? History is as it was."
        ) }}
    {%- endif -%}
{% endmacro %}


{#- Moves the replaced partition into the schema `restated`, with who did it, when and why. -#}
{% macro keep_replaced_partition(parent, table_name, build) %}
    {%- set replaced = api.Relation.create(database=parent.database, schema='history', identifier=build.replaces) -%}
    {%- set entry = "history.table_name = '" ~ table_name ~ "' and history.as_of = date '" ~ build.as_of ~ "'" -%}
    {%- do run_query('alter table ' ~ parent ~ ' detach partition ' ~ replaced) -%}
    {%- do run_query('alter table ' ~ replaced ~ ' set schema restated') -%}
    {%- do run_query(
        "insert into ops.restatements"
        ~ " (table_name, as_of, replaced_load_id, load_id, restated_by, reason, kept_in, replaced)"
        ~ " select history.table_name, history.as_of, history.load_id, loads.load_id, loads.started_by, loads.reason,"
        ~ " 'restated.' || history.partition_name, to_jsonb(history)"
        ~ " from ops.history as history inner join ops.loads as loads on loads.load_id = " ~ build.load_id ~ " where " ~ entry
    ) -%}
    {%- do run_query('delete from ops.history as history where ' ~ entry) -%}
{% endmacro %}
