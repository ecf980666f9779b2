{% for table_name in declared_tables() %}
-- depends_on: {{ ref(table_name ~ '_snapshots') }}
{% endfor %}
select
    load_id,
    as_of,
    month,
    is_merged
from {{ source('ops', 'complete_loads') }}
