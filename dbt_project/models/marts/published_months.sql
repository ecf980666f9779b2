select
    as_of,
    month,
    published_at
from {{ ref('published') }}
