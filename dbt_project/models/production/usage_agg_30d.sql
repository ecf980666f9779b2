{{ newest_of('usage_agg_30d') }}
