{% for table_name in declared_tables() %}
-- depends_on: {{ ref(table_name) }}
{% endfor %}
select
    load_id,
    as_of,
    month,
    clock_timestamp() as published_at
from {{ ref('complete_months') }}
where
    is_merged
    {% if is_incremental() %}
        and load_id not in (select known.load_id from {{ this }} as known)
    {% endif %}
