-- depends_on: {{ ref('users') }}
select
    user_id,
    failed_payments_90d,
    observed_as_of
from {{ ref('payments_agg_90d_snapshots') }}
where
    {{ streamflow.newly_delivered('payments_agg_90d') }}
