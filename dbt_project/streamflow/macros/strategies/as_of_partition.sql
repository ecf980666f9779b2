{#-
  The incremental strategy of history. The rows that the model selects become a partition of their own: filled, keyed, attached,
  guarded by triggers, and entered in ops.history with a checksum. That is several times faster than inserting under the primary key,
  and does not slow down as history grows.
-#}
{% macro get_incremental_as_of_partition_sql(arguments) %}
    {{ streamflow.begin_step(arguments.target_relation) }};
    select ops.build_history(
        '{{ arguments.target_relation }}', '{{ arguments.temp_relation }}',
        {{ streamflow.text_array(arguments.unique_key) }}, {{ streamflow.text_array(model.columns) }}
    )
{% endmacro %}


{#-
  The first statement of every step that writes: nobody lands a month until its transaction ends. It refuses runs that leave rows out,
  and locks the table that it is given.
-#}
{% macro begin_step(relation=none) %}
    {%- if execute and (invocation_args_dict.get('empty') or invocation_args_dict.get('sample')) -%}
        {{ exceptions.raise_compiler_error("nothing is written from rows that are left out: run dbt without --empty and --sample") }}
    {%- endif -%}
    select ops.begin_step('{{ invocation_id }}'{{ ", '" ~ relation ~ "'" if relation }})
{%- endmacro %}


{% macro text_array(names) %}array['{{ ([names] if names is string else names) | join("', '") }}']{% endmacro %}
