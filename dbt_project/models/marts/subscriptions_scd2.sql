{{ scd2_of('subscriptions') }}
