{{ newest_of('support_agg_90d') }}
