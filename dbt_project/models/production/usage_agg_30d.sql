-- depends_on: {{ ref('published') }}
{{ newest_of('usage_agg_30d') }}
