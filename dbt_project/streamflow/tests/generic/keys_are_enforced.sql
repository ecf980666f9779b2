{#- The database enforces every key that the model declares and it can enforce, so no row can break one. Row grain: missing key. -#}
{% test keys_are_enforced(model) %}
{%- set node = graph.nodes.get(context['model'].attached_node, {}) if execute else {} -%}
{%- set kinds = streamflow.enforced_kinds(node) if node else [] -%}
select declared.contype
from unnest(string_to_array('{{ kinds | join(' ') }}', ' ')) as declared (contype)
where not exists (
    select 1
    from pg_constraint as enforced
    where
        enforced.conrelid = to_regclass('{{ node.relation_name }}')
        and enforced.contype = declared.contype::"char"
        and enforced.convalidated
)
{% endtest %}
