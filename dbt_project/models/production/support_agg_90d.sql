-- depends_on: {{ ref('users') }}
select
    user_id,
    support_tickets_90d,
    ticket_avg_resolution_hrs_90d,
    observed_as_of
from {{ ref('support_agg_90d_snapshots') }}
where
    {{ streamflow.newly_delivered('support_agg_90d') }}
