-- name: tombstones
select key::text, customers_in, named_in, array_agg(tombstone) from ops.forgotten group by key, customers_in, named_in;

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
inner join ops.forgotten on forgotten.tombstone = sha256(convert_to(secret.key || customer, 'UTF8'))
where coalesce(forgotten.customers_in, %(customers_in)s) = %(customers_in)s;

-- name: enter
-- Each table of customers has a key of its own, as customers of two tables may have the same id.
with secret as (
    select coalesce(
        (select key from ops.forgotten where coalesce(customers_in, %(customers_in)s) = %(customers_in)s limit 1), gen_random_uuid()
    ) as key
)

insert into ops.forgotten (tombstone, key, link, customers_in, named_in)
select sha256(convert_to(secret.key || customer, 'UTF8')), secret.key, %(link)s, %(customers_in)s, %(named_in)s
from secret
cross join unnest(%(customers)s::text []) as customer;
