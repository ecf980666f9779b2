{{ config(alias='subscriptions') }}

select *
from {{ ref('subscriptions_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
