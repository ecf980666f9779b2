{{ newest_of('subscriptions') }}
