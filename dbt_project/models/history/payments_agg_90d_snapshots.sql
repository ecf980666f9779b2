-- depends_on: {{ ref('users_snapshots') }}
{{ history_of('payments_agg_90d') }}
