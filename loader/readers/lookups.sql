-- name: states
select
    as_of,
    observed_as_of,
    {columns}
from {history}
where {key} = %(user_id)s
order by as_of;

-- name: near
-- A customer whose name has the same letters in another case.
select {key}::text
from {production}
where lower({key}::text) = lower(%(user_id)s)
limit 1;

-- name: difference
-- Rows on each date, in both, that differ in any column, and in each one. `a.key = b.key` is true where both have the row.
-- The dates are literals, so that the planner reads two partitions and no other.
select
    count(a.{key}),
    count(b.{key}),
    count(*) filter (where a.{key} = b.{key}),
    count(*) filter (where a.{key} = b.{key} and ({differs}))
    {each}
from (select * from {history} where as_of = {first}) as a
full join (select * from {history} where as_of = {second}) as b on a.{key} = b.{key};

-- name: each
, count(*) filter (where a.{key} = b.{key} and {differs});

-- name: samples
select
    a.{key},
    {cells}
from (select * from {history} where as_of = {first}) as a
inner join (select * from {history} where as_of = {second}) as b on a.{key} = b.{key}
where {differs}
order by a.{key}
limit {rows};

-- name: columns
select attname
from pg_catalog.pg_attribute
where
    attrelid = to_regclass(format('public.%%I', %(table)s::text)) and attnum > 0 and not attisdropped
    and attname::text = any(%(declared)s)
order by array_position(%(declared)s, attname::text);
