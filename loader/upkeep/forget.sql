-- name: referencing
-- In a table that is no longer declared, the column with the customer: one that references the customers, or else has their key's name,
-- which is null if it is one like `id`.
select attname::text
from pg_catalog.pg_attribute
left join pg_catalog.pg_constraint
    on conrelid = attrelid and conkey[1] = attnum and contype = 'f'
    and confrelid = to_regclass(format('public.%%I', %(customers)s::text))
where
    attrelid = to_regclass(format('public.%%I', %(table)s::text))
    and not attisdropped
    and (conrelid is not null or attname = %(key)s)
order by conrelid is null;

-- name: cascades
-- The foreign keys by which rows of tables are deleted with those of others.
select
    child.name, conrelid::regclass::text, quote_ident(conname), ops.identifiers(ops.columns(conrelid, conkey)),
    parent.name, ops.identifiers(ops.columns(confrelid, confkey))
from pg_catalog.pg_constraint
inner join unnest(%(names)s::text []) as child (name) on conrelid = to_regclass(format('public.%%I', child.name))
inner join unnest(%(parents)s::text []) as parent (name) on confrelid = to_regclass(format('public.%%I', parent.name))
where contype = 'f' and confdeltype = 'c';

-- name: loses_rows
-- Whether a table has rows that would go with rows of its parent and are not among its own rows to delete. (A cluster needs the 1.)
select exists (
    select 1 from {table}
    where ({own}) is not true and ({columns}) in (select {to_columns} from {parent} where {others})
);

-- name: key
-- The key columns of a history table without as_of, and their types, in key order.
select attname::text, format_type(atttypid, null)
from pg_catalog.pg_index
cross join unnest(indkey) with ordinality as part (number, place)
inner join pg_catalog.pg_attribute on attrelid = indrelid and attnum = number
where indrelid = to_regclass(format('public.%%I', %s::text)) and indisprimary and attname <> 'as_of'
order by place;

-- name: named
select distinct {name}
from unnest(%s::text [] ::{type} []) as asked (customer);

-- name: by_customer
{customer} = any(%(customers)s::text [] ::{type} []);

-- name: keys
select distinct {key} from {history} where {by_customer};

-- name: by_key
({by_customer} or ({key}) in (select * from unnest({each})));

-- name: make_leaving
create temporary table leaving (like {relation});

-- name: leaving
insert into leaving select * from {relation} where {theirs};

-- name: sums
-- Totals of the rows to delete from a history table, and their customers.
select
    count(*) as rows,
    count(*) filter (where observed_as_of = as_of) as delivered,
    ops.checksum('pg_temp.leaving'::regclass, %s::text []) as checksum,
    array_agg({name}) as customers
from leaving;

-- name: delete
delete from {relation}
where {theirs}
returning {name};

-- name: no_longer_landed
-- The staging tables of tables that are neither declared nor in history: no landing replaces their rows.
select distinct landed.table_name
from ops.landed_files as landed
where landed.table_name <> all(%s::text []) and to_regclass(format('staging.%%I', landed.table_name)) is not null;

-- name: update_staged
update ops.staged set row_count = row_count - %s where table_name = %s;

-- name: shorten_errors
-- Errors that an earlier version entered can have a customer's row, but not in the first two lines, which `status` shows.
update ops.loads set error = substring(error from '^[^\n]*\n[^\n]*') where error like E'%\n%\n%';
