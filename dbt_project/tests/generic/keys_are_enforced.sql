{#- The database enforces every key that the model declares, so no row can break one. Row grain: missing key. -#}
{% test keys_are_enforced(model) %}
    {%- set contypes = {'primary_key': 'p', 'foreign_key': 'f'} -%}
    {%- set node = graph.nodes.get(context['model'].attached_node, {}) if execute else {} -%}
    select declared.contype
    from unnest(array[
        {%- for constraint in node.constraints or [] if constraint.type in contypes %}'{{ contypes[constraint.type] }}', {% endfor %}null
    ]::"char" []) as declared (contype)
    where
        declared.contype is not null
        and not exists (
            select 1
            from pg_constraint as enforced
            where
                enforced.conrelid = '{{ node.relation_name }}'::regclass
                and enforced.contype = declared.contype
                and enforced.convalidated
        )
{% endtest %}
