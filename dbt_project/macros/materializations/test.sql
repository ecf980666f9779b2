{#-
  A data test on a staging table is an audit: its verdict is entered in ops.audits for the load that staging held while it
  ran, in the statement that ran it, so that the gate can ask for it. Any other test runs as dbt's own.
-#}
{% materialization test, adapter='postgres' %}
    {%- if audited_table(model) is none -%}
        {{ return(dbt.materialization_test_default()) }}
    {%- endif -%}
    {%- do use_memory() -%}
    {%- call statement('main', fetch_result=True, auto_begin=True) %}
        with verdict_1 as (
            {{ verdict_of(model, sql) }}
        ),

        recorded as (
            {{ record_audits([model]) }}
        )

        select * from verdict_1
    {%- endcall -%}
    {{ adapter.commit() }}
    {{ return({'relations': []}) }}
{% endmaterialization %}
