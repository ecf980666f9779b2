-- name: rows
copy (select * from {relation} order by {key}) to stdout (format csv, header);

-- name: load
copy {relation} ({columns}) from stdin (format csv);

-- name: create
create table {partition} (like {parent});

-- name: key
-- The primary key of a table as quoted SQL text, and the first column of the key.
select ops.identifiers(ops.primary_key(relation)), (ops.primary_key(relation))[1]
from to_regclass(%s) as relation;

-- name: attach
select ops.attach_partition(%s::regclass, %s::regclass, %s::date);
