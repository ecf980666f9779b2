{#-
  What one PostgreSQL and a Citus cluster do differently is in this folder, and nowhere else: a macro for each in postgres.sql
  and one of the same name in citus.sql. `on_engine('name')` is the one for the server that this run is connected to.
-#}
{% macro on_engine(name) %}
    {{ return(context[engine() ~ '__' ~ name]) }}
{% endmacro %}


{#- 'citus' or 'postgres': as STREAMFLOW_ENGINE says, or by whether the database has that extension. loader/engines.py asks the same. -#}
{% macro engine() %}
    {%- set said = env_var('STREAMFLOW_ENGINE', '') -%}
    {%- if said in ['citus', 'postgres'] -%}
        {{ return(said) }}
    {%- endif -%}
    {{ return('citus' if run_query("select 1 from pg_extension where extname = 'citus'").rows else 'postgres') }}
{% endmacro %}


{#- For a `call` block around one DDL command among others in a statement. -#}
{% macro ddl() %}{{ on_engine('ddl')(caller() | trim) }}{% endmacro %}


{#- Ends a run on a cluster of which a node is away, or lacks rows that the others have. -#}
{% macro require_settled() %}
    {%- set statement = on_engine('require_settled')() | trim -%}
    {%- if statement %}{% do run_query(statement) %}{% endif -%}
{% endmacro %}
