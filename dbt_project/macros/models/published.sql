{#- The months that have just become complete: every table of the staged load is merged. Row grain: as_of. -#}
{% macro complete_months() %}
with staged as (
    select
        load_id,
        count(*) as table_count
    from {{ source('ops', 'staged') }}
    group by load_id
),

merged as (
    select
        as_of,
        count(merged_at) as table_count
    from {{ source('ops', 'history') }}
    group by as_of
)

select
    loads.as_of,
    loads.load_id,
    loads.month,
    clock_timestamp() as published_at
from {{ source('ops', 'loads') }} as loads
inner join staged on loads.load_id = staged.load_id
inner join merged on loads.as_of = merged.as_of
where
    loads.command = 'ingest'
    and loads.state not in ('refused', 'published')
    and staged.table_count = merged.table_count
{% endmacro %}
