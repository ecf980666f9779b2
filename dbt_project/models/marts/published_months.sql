with newest as (
    select distinct on (as_of)
        as_of,
        load_id,
        month,
        published_at
    from {{ ref('published') }}
    order by as_of asc, load_id desc
)

select
    newest.as_of,
    lag(newest.as_of) over (order by newest.as_of) as previous_as_of,
    newest.month,
    newest.load_id,
    newest.published_at
from newest
-- readers do not see a month of which a part is being replaced
where not exists (
    select 1
    from {{ source('ops', 'history') }} as history
    where
        history.as_of = newest.as_of
        and history.load_id not in (select published.load_id from {{ ref('published') }} as published)
)
