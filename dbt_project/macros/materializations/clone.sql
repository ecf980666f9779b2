{#- dbt's own clone replaces a table by a view or a copy of another: history would be gone. -#}
{% materialization clone, adapter='postgres' %}
    {{ exceptions.raise_compiler_error("`dbt clone` is not for this project: it would replace history and production") }}
{% endmaterialization %}
