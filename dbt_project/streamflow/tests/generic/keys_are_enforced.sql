{#- The database enforces every declared key that it can enforce, so that no row can break one. Row grain: missing key. -#}
{% test keys_are_enforced(model) %}
{%- set node = graph.nodes.get(context['model'].attached_node, {}) if execute else {} -%}
select missing.type
from ops.declared_keys(to_regclass('{{ node.relation_name }}'), {{ streamflow.as_json(node.constraints or []) }}) as missing
where missing.is_missing and (
    missing.type = 'primary_key' or ops.can_refer(to_regclass('{{ node.relation_name }}'), missing.parent)
)
{% endtest %}
