{#-
  Lets the transaction sort and hash a million customers in memory, up to a limit that a small server can give; a server set
  to more keeps its own. Compiling a statement to machine code costs more than it saves in statements that run once.
-#}
{% macro use_memory() %}
    {%- call statement('use_memory', auto_begin=True) %}
        select
            set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')), 64 << 20)::bigint / 1024 || 'kB', true),
            set_config(
                'maintenance_work_mem',
                greatest(pg_size_bytes(current_setting('maintenance_work_mem')), 256 << 20)::bigint / 1024 || 'kB', true
            ),
            set_config('jit', 'off', true)
    {% endcall -%}
{% endmacro %}
