-- depends_on: {{ ref('published') }}
{{ newest_of('support_agg_90d') }}
