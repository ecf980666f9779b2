-- name: entries
select table_name, as_of, rows_total, partition_name, checksum, checksum_columns
from ops.history
order by table_name, as_of;

-- name: counts
-- Rows, and those with a value in a column that was declared since.
select count(*), count(*) filter (where num_nonnulls({later}) > 0)
from {history}
where as_of = {as_of};

-- name: checksum
-- Over the columns that it was taken of; none where the partition is gone, or is none of the table any more.
select ops.checksum(inhrelid, %s::text [])
from pg_catalog.pg_inherits
where inhparent = %s::regclass and inhrelid = to_regclass(format('history.%%I', %s::text));

-- name: unmerged
-- The dates whose deliveries production has yet to take in.
select string_agg(as_of::text, ', ' order by as_of) from ops.history where table_name = %s and merged_at is null;

-- name: production
-- The newest delivered row of every customer, beside the row that production has.
with newest as (
    select distinct on ({key}) {columns}
    from {history}
    where observed_as_of = as_of
    order by {key}, observed_as_of desc
),

actual as (
    select {columns} from {production}
)

select
    count(actual.{key}),
    count(*) filter (where newest.* is distinct from actual.*)
from newest
full join actual on newest.{key} = actual.{key};

-- name: shape
-- The columns of a table, and the first one of its primary key.
select
    array_agg(attname::text order by attnum),
    min(attname::text) filter (
        where attnum = (select indkey[0] from pg_catalog.pg_index where indrelid = attrelid and indisprimary)
    )
from pg_catalog.pg_attribute
where attrelid = format('public.%%I', %(table)s::text)::regclass and attnum > 0 and not attisdropped;
