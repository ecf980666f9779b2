-- dbt builds the gate only after the tests have passed that read these sources, and nothing else
-- depends_on: {{ source('ops', 'month_before') }}
{% for audited in var('audited_besides', []) %}
-- depends_on: {{ ref(audited) if audited is string else source(audited[0], audited[1]) }}
{% endfor %}
{% for table_name in declared_tables() %}
-- depends_on: {{ source('staging', table_name) }}
{% endfor %}
select
    loads.load_id,
    loads.as_of,
    loads.month
from {{ source('ops', 'loads') }} as loads
where
    loads.load_id in (select staged.load_id from {{ source('ops', 'staged') }} as staged)
    and loads.command <> 'check'
    and loads.state <> 'refused'
