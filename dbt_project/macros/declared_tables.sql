{#- Written by `streamflow models` from models/staging/_sources.yml. Change that file, not this one. -#}
{% macro declared_tables() %}{{ return(['users', 'subscriptions', 'usage_agg_30d', 'payments_agg_90d', 'support_agg_90d', 'labels']) }}{% endmacro %}
