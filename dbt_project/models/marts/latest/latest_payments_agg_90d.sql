{{ config(alias='payments_agg_90d') }}

select
    user_id,
    failed_payments_90d,
    as_of,
    observed_as_of
from {{ ref('payments_agg_90d_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
