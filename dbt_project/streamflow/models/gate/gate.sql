-- what audits read besides staging, so that dbt lets the gate wait for them
-- depends_on: {{ source('ops', 'history') }}
{% for audited in audited_besides() %}
-- depends_on: {{ source(audited[0], audited[1]) }}
{% endfor %}
with landed as (
    {% for table_name in declared_tables() %}
        select
            '{{ table_name }}' as table_name,
            count(*) as row_count
        from {{ source('staging', table_name) }}
        {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select
    loads.load_id,
    loads.as_of,
    loads.month,
    sum(landed.row_count)::bigint as rows_delivered
from {{ source('ops', 'loads') }} as loads
inner join {{ source('ops', 'staged') }} as staged on loads.load_id = staged.load_id
inner join landed on staged.table_name = landed.table_name
where loads.command <> 'check' and loads.state <> 'refused'
group by loads.load_id
