{{ history_of('support_agg_90d') }}
