-- depends_on: {{ ref('users_snapshots') }}
{{ history_of('support_agg_90d') }}
