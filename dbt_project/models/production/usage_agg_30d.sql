-- depends_on: {{ ref('users') }}
select
    user_id,
    watch_hours_30d,
    avg_session_mins_7d,
    unique_devices_30d,
    skips_7d,
    rebuffer_events_7d,
    observed_as_of
from {{ ref('usage_agg_30d_snapshots') }}
where
    {{ streamflow.newly_delivered('usage_agg_30d') }}
