{{ config(alias='usage_agg_30d') }}

select
    user_id,
    watch_hours_30d,
    avg_session_mins_7d,
    unique_devices_30d,
    skips_7d,
    rebuffer_events_7d,
    as_of,
    observed_as_of
from {{ ref('usage_agg_30d_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
