-- name: states
select
    as_of,
    observed_as_of,
    {columns}
from {history}
where
    ({who}) = ({values})
    and as_of in (select published.as_of from public.published_months as published)
order by {keys}, as_of;

-- name: difference
-- Row counts: on each date, on both dates, different in any column, and different in each column. `a.key = b.key` compares the first
-- column of the key, and is true if both dates have the row.
-- The dates are literals, so that the planner reads only their two partitions.
select
    count(a.{key}),
    count(b.{key}),
    count(*) filter (where a.{key} = b.{key}),
    count(*) filter (where a.{key} = b.{key} and ({differs}))
    {each}
from (select * from {history} where as_of = {first}) as a
full join (select * from {history} where as_of = {second}) as b using ({keys});

-- name: each
, count(*) filter (where a.{key} = b.{key} and {differs});

-- name: samples
select
    {keys},
    {cells}
from (select * from {history} where as_of = {first}) as a
inner join (select * from {history} where as_of = {second}) as b using ({keys})
where {differs}
order by {keys}
limit {rows};
