-- with both dates given as constants, one partition of each table is read
select
    users.user_id,
    users.as_of,
    label_dates.as_of as label_as_of,
    users.as_of::timestamp as event_timestamp,
    users.signup_date,
    users.user_gender,
    users.user_is_senior,
    users.has_family,
    users.has_dependents,
    subscriptions.months_active,
    subscriptions.plan_stream_tv,
    subscriptions.plan_stream_movies,
    subscriptions.contract_type,
    subscriptions.paperless_billing,
    subscriptions.monthly_fee,
    subscriptions.total_paid,
    subscriptions.net_service,
    subscriptions.add_on_security,
    subscriptions.add_on_backup,
    subscriptions.add_on_device_protect,
    subscriptions.add_on_support,
    usage_agg_30d.watch_hours_30d,
    usage_agg_30d.avg_session_mins_7d,
    usage_agg_30d.unique_devices_30d,
    usage_agg_30d.skips_7d,
    usage_agg_30d.rebuffer_events_7d,
    payments_agg_90d.failed_payments_90d,
    support_agg_90d.support_tickets_90d,
    support_agg_90d.ticket_avg_resolution_hrs_90d,
    labels.churn_label
from {{ ref('users_snapshots') }} as users
inner join {{ ref('published_months') }} as feature_dates on users.as_of = feature_dates.as_of
inner join {{ ref('published_months') }} as label_dates on users.as_of <= label_dates.as_of
left join {{ ref('subscriptions_snapshots') }} as subscriptions
    on
        users.user_id = subscriptions.user_id
        and users.as_of = subscriptions.as_of
left join {{ ref('usage_agg_30d_snapshots') }} as usage_agg_30d
    on
        users.user_id = usage_agg_30d.user_id
        and users.as_of = usage_agg_30d.as_of
left join {{ ref('payments_agg_90d_snapshots') }} as payments_agg_90d
    on
        users.user_id = payments_agg_90d.user_id
        and users.as_of = payments_agg_90d.as_of
left join {{ ref('support_agg_90d_snapshots') }} as support_agg_90d
    on
        users.user_id = support_agg_90d.user_id
        and users.as_of = support_agg_90d.as_of
left join {{ ref('labels_snapshots') }} as labels
    on
        users.user_id = labels.user_id
        -- a label that was carried forward says nothing of that date
        and label_dates.as_of = labels.as_of
        and label_dates.as_of = labels.observed_as_of
