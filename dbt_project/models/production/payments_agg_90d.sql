-- depends_on: {{ ref('published') }}
{{ newest_of('payments_agg_90d') }}
