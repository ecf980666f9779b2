{#-
  A history table: list-partitioned by as_of, each partition built once as a table of its own, keyed, and then attached.
  That is several times faster than inserting under the primary key and does not slow down as history grows. A partition
  that stands is never touched, --full-refresh or not. The model's SELECT is compiled once more, now that the lock is held:
  staging may have moved on since it was.
-#}
{% materialization history, adapter='postgres' %}
    {%- do hold_run_lock() -%}
    {%- set plan = history_plan(source_table(), ref('gate')) -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks) }}

    {%- if not plan.as_of -%}
        {%- call noop_statement('main', 'NOTHING STAGED') %}{% endcall -%}
    {%- elif plan.is_built -%}
        {%- call noop_statement('main', 'STANDS') %}{% endcall -%}
    {%- else -%}
        {%- set partition = api.Relation.create(
            database=this.database, schema=history_schema(),
            identifier=source_table() ~ '_' ~ plan.as_of | replace('-', '_') ~ ('_load_' ~ plan.load_id if plan.replaces else '')
        ) -%}
        {%- do require_settled() -%}
        {%- do use_memory() -%}
        {%- call statement('main', auto_begin=True) %}
            {{ on_engine('build_partition')(partition, target_relation, key_column(), history_of(source_table(), plan)) }}
        {%- endcall -%}
        {%- if plan.replaces -%}
            {%- call statement('replace') %}{{ take_out_replaced_partition(target_relation, plan) }}{% endcall -%}
        {%- endif -%}
        {%- call statement('attach') %}
            {{ attach_history_partition(target_relation, partition, plan, load_result('main').response.rows_affected) }}
        {%- endcall -%}
        {{ run_hooks(post_hooks) }}
        {{ adapter.commit() }}
    {%- endif -%}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}


{#- Keys the partition, attaches it and enters it in ops.history. The check lets PostgreSQL attach without a second scan. -#}
{% macro attach_history_partition(parent, partition, plan, rows_total) %}
    {%- set changes = [] -%}
    {%- for column in model.columns.values() if column.constraints | selectattr('type', 'equalto', 'not_null') | list -%}
        {%- do changes.append('alter column ' ~ adapter.quote(column.name) ~ ' set not null') -%}
    {%- endfor -%}
    {%- set key = (model.constraints | selectattr('type', 'equalto', 'primary_key') | first).columns | map('tojson') | join(', ') -%}
    {%- do changes.append("add constraint as_of_of_this_partition check (as_of = date '" ~ plan.as_of ~ "')") -%}
    {%- do changes.append('add primary key (' ~ key ~ ')') -%}
    {{ on_engine('alter_table')(partition, changes) }}
    {%- call ddl() %}alter table {{ parent }} attach partition {{ partition }} for values in ('{{ plan.as_of }}'){% endcall %}
    {%- call ddl() %}alter table {{ partition }} drop constraint as_of_of_this_partition{% endcall %}
    {{ immutable_ddl(partition) }}
    analyze {{ partition }};
    insert into {{ source('ops', 'history') }}
        (table_name, as_of, load_id, rows_delivered, rows_total, partition_name, checksum, checksum_columns)
    select
        staged.table_name, staged.as_of, staged.load_id, staged.row_count, {{ rows_total }}, '{{ partition.identifier }}',
        (select {{ checksum(contract_columns()) }} from {{ partition }}),
        array['{{ model.columns | join("', '") }}']
    from {{ source('ops', 'staged') }} as staged
    where staged.table_name = '{{ source_table() }}';
{% endmacro %}


{#-
  Takes the replaced partition out of history into the schema `restated`, with who did it, when and why. One that was never
  published goes for good: it is from an attempt that was cut off, and the delivery has been corrected since.
-#}
{% macro take_out_replaced_partition(parent, plan) %}
    {%- set replaced = api.Relation.create(database=this.database, schema=history_schema(), identifier=plan.replaces) %}
    {%- call ddl() %}alter table {{ parent }} detach partition {{ replaced }}{% endcall %}
    {%- if not plan.was_published %}
    {%- call ddl() %}drop table {{ replaced }}{% endcall %}
    {%- else %}
    {%- call ddl() %}alter table {{ replaced }} set schema restated{% endcall %}
    insert into {{ source('ops', 'restatements') }}
        (table_name, as_of, replaced_load_id, load_id, restated_by, reason, kept_in)
    select history.table_name, history.as_of, history.load_id, loads.load_id, loads.started_by, loads.reason, 'restated.{{ plan.replaces }}'
    from {{ source('ops', 'history') }} as history
    inner join {{ source('ops', 'loads') }} as loads on loads.load_id = {{ plan.load_id }}
    where history.table_name = '{{ source_table() }}' and history.as_of = date '{{ plan.as_of }}';
    {%- endif %}
    delete from {{ source('ops', 'history') }}
    where table_name = '{{ source_table() }}' and as_of = date '{{ plan.as_of }}'
{% endmacro %}


{#- Of all rows whatever their order: the sum of PostgreSQL's own 64-bit hash of each. loader/verification.py has the same. -#}
{% macro checksum(columns) -%}
    coalesce(sum(hash_record_extended(row({{ columns | join(', ') }}), 0)), 0)
{%- endmacro %}
