{#- Gives the transaction that has begun, or begins with this, the memory that a month needs. -#}
{% macro use_memory() %}
    {%- call statement('use_memory', auto_begin=True) %}{{ on_engine('use_memory')() }}{% endcall -%}
{% endmacro %}
