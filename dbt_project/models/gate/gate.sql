{{ config(pre_hook="{{ require_passed_audits() }}") }}

with staged as (
    {% for table_name in declared_tables() %}
    -- depends_on: {{ source('staging', table_name) }}
    {% endfor %}
    select distinct
        load_id,
        as_of
    from {{ source('ops', 'staged') }}
),

audits as (
    select
        load_id,
        count(*) filter (where status = 'pass') as audits_passed,
        count(*) filter (where status = 'warn') as audits_warned
    from {{ source('ops', 'audits') }}
    group by load_id
)

select
    staged.load_id,
    staged.as_of,
    audits.audits_passed,
    audits.audits_warned
from staged
inner join audits on staged.load_id = audits.load_id
where staged.load_id = {{ publishable_load() }}
