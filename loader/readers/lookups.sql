-- name: states
select
    as_of,
    observed_as_of,
    {columns}
from {history}
where ({who}) = ({values})
order by {keys}, as_of;

-- name: difference
-- Rows on each date, in both, that differ in any column, and in each one. `a.key = b.key`, of the first column of the key, is true
-- where both have the row.
-- The dates are literals, so that the planner reads two partitions and no other.
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
