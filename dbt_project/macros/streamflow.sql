{#- dbt looks for strategies and overridden built-in materializations in the project itself: these macros forward to the package. -#}
{% macro get_incremental_as_of_partition_sql(arguments) %}{{ return(streamflow.get_incremental_as_of_partition_sql(arguments)) }}{% endmacro %}
{% macro get_incremental_newest_wins_sql(arguments) %}{{ return(streamflow.get_incremental_newest_wins_sql(arguments)) }}{% endmacro %}
{% materialization view, adapter='postgres' %}{{ return(streamflow.materialization_view_postgres()) }}{% endmaterialization %}
