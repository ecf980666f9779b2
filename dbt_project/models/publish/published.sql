{% for table_name in declared_tables() %}
-- depends_on: {{ ref(table_name ~ '_snapshots') }}
{% endfor %}
-- depends_on: {{ ref('advance_production') }}
{{ complete_months() }}
