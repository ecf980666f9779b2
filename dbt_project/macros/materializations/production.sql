{#-
  A production table is written by the model `published`, together with all others and in one transaction, so that readers
  never see two months at once. This materialization makes the table a model of its own, for whatever is built on it.
-#}
{% materialization production, adapter='postgres' %}
    {{ run_hooks(pre_hooks) }}
    {%- call noop_statement('main', 'AS PUBLISHED') %}{% endcall -%}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{% endmaterialization %}
