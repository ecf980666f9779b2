{{ config(alias='support_agg_90d') }}

select
    user_id,
    support_tickets_90d,
    ticket_avg_resolution_hrs_90d,
    as_of,
    observed_as_of
from {{ ref('support_agg_90d_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
