{#- dbt looks for strategies in the root project, and lets a package override a built-in materialization only from there: these forward to it. -#}
{% macro get_incremental_as_of_partition_sql(arguments) %}{{ return(streamflow.get_incremental_as_of_partition_sql(arguments)) }}{% endmacro %}
{% macro get_incremental_newest_wins_sql(arguments) %}{{ return(streamflow.get_incremental_newest_wins_sql(arguments)) }}{% endmacro %}
{% materialization view, adapter='postgres' %}{{ return(streamflow.materialization_view_postgres()) }}{% endmaterialization %}
