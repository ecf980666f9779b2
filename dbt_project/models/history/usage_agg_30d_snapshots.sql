-- depends_on: {{ ref('users_snapshots') }}
{{ history_of('usage_agg_30d') }}
