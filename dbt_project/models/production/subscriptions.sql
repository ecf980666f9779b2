-- depends_on: {{ ref('users') }}
select
    user_id,
    months_active,
    plan_stream_tv,
    plan_stream_movies,
    contract_type,
    paperless_billing,
    monthly_fee,
    total_paid,
    net_service,
    add_on_security,
    add_on_backup,
    add_on_device_protect,
    add_on_support,
    observed_as_of
from {{ ref('subscriptions_snapshots') }}
where
    {{ streamflow.newly_delivered('subscriptions') }}
