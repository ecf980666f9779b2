{#-
  The incremental strategy of history. The rows that the model selects become a partition of their own: filled, keyed, attached,
  guarded by triggers, and entered in ops.history with a checksum. That is several times faster than inserting under the primary key,
  and does not slow down as history grows.
-#}
{% macro get_incremental_as_of_partition_sql(arguments) %}
    {#- what months_before wrote into the compiled model; ops.build_history checks it once it has the lock: months may have changed since -#}
    {%- set lists = "((?:date '[0-9-]+'(?:, )?)+|null::date) /\\* months_before \\*/" -%}
    {%- set read = modules.re.findall(lists, model.compiled_code) -%}
    {{ streamflow.begin_step(arguments.target_relation) }};
    select ops.build_history(
        '{{ arguments.target_relation }}', '{{ arguments.temp_relation }}',
        {{ streamflow.text_array(arguments.unique_key) }}, {{ streamflow.text_array(model.columns) }},
        {{ streamflow.text_array(read) if read else 'null' }}
    )
{% endmacro %}
