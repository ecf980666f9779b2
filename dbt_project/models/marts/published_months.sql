-- a month of which a part is being replaced is of no complete load, and readers do not see it until it is
with newest as (
    select distinct on (published.as_of)
        published.as_of,
        published.load_id,
        published.month,
        published.published_at
    from {{ ref('published') }} as published
    inner join {{ ref('complete_months') }} as complete on published.load_id = complete.load_id
    order by published.as_of asc, published.load_id desc
)

select
    as_of,
    lag(as_of) over (order by as_of) as previous_as_of,
    month,
    load_id,
    published_at
from newest
