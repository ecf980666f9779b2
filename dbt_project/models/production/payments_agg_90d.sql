{{ newest_of('payments_agg_90d') }}
