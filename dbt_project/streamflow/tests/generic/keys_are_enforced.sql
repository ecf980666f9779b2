{#- The database enforces every key that the model declares, so no row can break one. Row grain: missing key. -#}
{% test keys_are_enforced(model) %}
{%- set node = graph.nodes.get(context['model'].attached_node, {}) if execute else {} -%}
{%- set kinds = node.constraints | default([]) | map(attribute='type') | select('in', ['primary_key', 'foreign_key']) | map('first') -%}
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
