-- name: tombstones
select key::text, array_agg(tombstone) from ops.forgotten group by key;

-- name: take_out
-- Only built-in functions, which Citus nodes have too. convert_to is in a subquery: Citus does not delete by a stable function.
delete from {staging}
where
    {customer} in (
        select {customer} from {staging}
        where
            sha256(convert_to({key} || {name}, 'UTF8')) = any({tombstones})
            or sha256(convert_to({key} || {customer}::text, 'UTF8')) = any({tombstones})  -- as version 0.2.0 entered them
    );

-- name: known
select customer
from (select distinct key from ops.forgotten) as secret
cross join unnest(%(customers)s::text []) as customer
inner join ops.forgotten on forgotten.tombstone = sha256(convert_to(secret.key || customer, 'UTF8'));

-- name: enter
with secret as (
    select coalesce((select key from ops.forgotten limit 1), gen_random_uuid()) as key
)

insert into ops.forgotten (tombstone, key, link)
select sha256(convert_to(secret.key || customer, 'UTF8')), secret.key, %(link)s
from secret
cross join unnest(%(customers)s::text []) as customer;

-- name: remember_tables
update ops.forgotten
set customers_in = %(owner)s, named_in = array(select unnest(named_in) union select unnest(%(named_in)s::text []))
where coalesce(customers_in, %(owner)s) = %(owner)s and (named_in @> %(named_in)s::text []) is not true;

-- name: tables_then
-- Without tables that have no history: no row of theirs named anybody. A ledger of an earlier version lacks these columns.
select distinct
    known ->> 'customers_in',
    array(
        select name from jsonb_array_elements_text(known -> 'named_in') as name
        where split_part(name, '.', 1) in (select history.table_name from ops.history as history)
    )
from ops.forgotten
cross join to_jsonb(forgotten) as known
where known ->> 'customers_in' is not null;
