{{ config(alias='payments_agg_90d') }}

select *
from {{ ref('payments_agg_90d_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
