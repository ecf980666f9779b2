-- name: columns
-- The columns of a partition and their types, in order.
select attname::text, format_type(atttypid, null)
from pg_catalog.pg_attribute
where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
order by attnum;

-- name: rows
copy (select * from {relation} order by {key}) to stdout (format csv, header);

-- name: load
copy {relation} ({columns}) from stdin (format csv);

-- name: detach
alter table {parent} detach partition {partition};

-- name: create
create table {partition} (like {parent});

-- name: key
-- The primary key of history, as in its declaration, and its first column.
select string_agg(quote_ident(attname), ', ' order by place), min(attname::text) filter (where place = 1)
from pg_catalog.pg_index
cross join unnest(indkey) with ordinality as part (number, place)
inner join pg_catalog.pg_attribute on attrelid = indrelid and attnum = number
where indrelid = to_regclass(%s) and indisprimary;

-- name: attach
select ops.attach_partition(%s::regclass, %s::regclass, %s, %s::date);

-- name: archived
select as_of, table_name, folder, file, sha256 from ops.archived order by as_of, table_name;
