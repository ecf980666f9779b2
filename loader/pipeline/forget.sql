-- name: key
-- The first column of a table's primary key, and its type.
select attname::text, format_type(atttypid, null)
from pg_catalog.pg_index
inner join pg_catalog.pg_attribute on attrelid = indrelid and attnum = indkey[0]
where indrelid = to_regclass(%s) and indisprimary;

-- name: rows_of
-- What a table of history has of these customers, and which of them.
select
    count(*) as rows_total,
    count(*) filter (where observed_as_of = as_of) as rows_delivered,
    array_agg({key}::text) as customers
from {relation}
where {key} = any(%(customers)s::text [] ::{type} []);

-- name: checksum
select ops.checksum(%(relation)s::regclass, %(covered)s::text [], %(key)s, %(customers)s::text []);

-- name: delete
delete from {relation}
where {key} = any(%(customers)s::text [] ::{type} [])
returning {key}::text;

-- name: update_staged
update ops.staged set row_count = row_count - %s where table_name = %s;

-- name: update_history
-- Inserted and updated customers cannot be more than there are.
update ops.history
set
    rows_total = rows_total - %(rows_total)s,
    rows_delivered = rows_delivered - %(rows_delivered)s,
    rows_inserted = least(rows_inserted, rows_delivered - %(rows_delivered)s),
    rows_updated = least(rows_updated, rows_delivered - %(rows_delivered)s - least(rows_inserted, rows_delivered - %(rows_delivered)s)),
    checksum = checksum - %(checksum)s
where table_name = %(table)s and as_of = %(as_of)s and load_id = %(load)s;

-- name: update_restated
update ops.restatements
set
    replaced = replaced || jsonb_build_object(
        'rows_total', (replaced ->> 'rows_total')::bigint - %(rows_total)s,
        'rows_delivered', (replaced ->> 'rows_delivered')::bigint - %(rows_delivered)s,
        'checksum', (replaced ->> 'checksum')::numeric - %(checksum)s
    )
where table_name = %(table)s and as_of = %(as_of)s and replaced_load_id = %(load)s;

-- name: add_link
select ops.add_link(
    jsonb_build_object('event', 'forgotten', 'at', clock_timestamp(), 'customers', %s::bigint, 'by', %s::text, 'reason', %s::text, 'tables', %s::jsonb)
);
