{{ config(alias='support_agg_90d') }}

select *
from {{ ref('support_agg_90d_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
