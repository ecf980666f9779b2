-- the audits, and all that they read besides staging: dbt lets the gate wait for them
-- depends_on: {{ source('ops', 'month_before') }}
{% for audited in audited_besides() %}
-- depends_on: {{ source(audited[0], audited[1]) }}
{% endfor %}
{% for table_name in declared_tables() %}
-- depends_on: {{ source('staging', table_name) }}
{% endfor %}
select
    loads.load_id,
    loads.as_of,
    loads.month,
    sum(staged.row_count)::bigint as rows_delivered
from {{ source('ops', 'loads') }} as loads
inner join {{ source('ops', 'staged') }} as staged on loads.load_id = staged.load_id
where loads.command <> 'check' and loads.state <> 'refused'
group by loads.load_id
