-- while a restatement is half done, its month belongs to no complete load and is hidden
with newest as (
    select distinct on (published.as_of)
        published.as_of,
        published.load_id,
        published.month,
        published.published_at
    from {{ ref('published') }} as published
    inner join {{ ref('complete_months') }} as complete on published.load_id = complete.load_id
    order by published.as_of asc, published.load_id desc
),

archived as (
    select
        as_of,
        min(folder) as folder
    from {{ source('ops', 'archived') }}
    group by as_of
)

select
    newest.as_of,
    max(case when archived.folder is null then newest.as_of end) over (
        order by newest.as_of rows between unbounded preceding and 1 preceding
    ) as previous_as_of,
    newest.month,
    newest.load_id,
    newest.published_at,
    archived.folder as archived_in
from newest
left join archived on newest.as_of = archived.as_of
