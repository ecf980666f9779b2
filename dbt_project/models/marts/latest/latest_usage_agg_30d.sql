{{ config(alias='usage_agg_30d') }}

select *
from {{ ref('usage_agg_30d_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
