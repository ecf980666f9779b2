select
    as_of,
    lag(as_of) over (order by as_of) as previous_as_of,
    month,
    load_id,
    published_at
from {{ ref('published') }}
