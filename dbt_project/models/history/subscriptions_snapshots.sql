{{ history_of('subscriptions') }}
