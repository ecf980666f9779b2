-- name: links
-- The chain: whether each link holds, and a publication that it tells of is there.
select
    link,
    tells,
    sha256,
    case
        when link <> row_number() over by_number or sha256 <> ops.link_sha256(lag(sha256) over by_number, tells)
            then 'is not what was entered, or the one before it is gone'
        when tells ->> 'event' = 'published' and not exists (
            select from ops.published as published
            where
                published.load_id = (tells ->> 'load')::bigint
                and published.as_of = (tells ->> 'as_of')::date
                and published.month = tells ->> 'month'
        ) then 'tells of a publication that is gone from ops.published'
    end as wrong
from ops.chain
window by_number as (order by link)
order by link;
