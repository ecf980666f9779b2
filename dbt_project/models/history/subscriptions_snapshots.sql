-- depends_on: {{ ref('users_snapshots') }}
{{ history_of('subscriptions') }}
