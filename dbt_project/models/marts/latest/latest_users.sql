{{ config(alias='users') }}

select *
from {{ ref('users_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
