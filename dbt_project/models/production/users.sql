-- depends_on: {{ ref('published') }}
{{ newest_of('users') }}
