-- name: unlinked
-- The publications that have no link in the chain, and the links whose forgotten customers could land again.
select 'ops.chain: it has no link for the publication of month ' || month || ' by load ' || load_id
from ops.published
where load_id not in (select (tells ->> 'load')::bigint from ops.chain where tells ->> 'event' = 'published')
union all
select format('ops.forgotten: %s of the customers whom link %s of ops.chain tells of', kept.customers, chain.link)
from ops.chain
cross join lateral (select count(*) as customers from ops.forgotten where forgotten.link = chain.link) as kept
where chain.tells ->> 'event' = 'forgotten' and kept.customers::text <> chain.tells ->> 'customers'
order by 1;

-- name: functions
select proname, prosrc, coalesce(array_to_string(proconfig, ', '), '') from pg_catalog.pg_proc where pronamespace = 'ops'::regnamespace;

-- name: same_rows
select not exists ((table {view} except all ({query})) union all (({query}) except all table {view}));

-- name: ledger_as_it_is
select
    (select max(link) from ops.chain) as link,
    (select md5(string_agg(history::text, ' ' order by history.table_name, history.as_of)) from ops.history as history) as history;

-- name: relation
-- What is wrong with a table, what is wrong with its triggers that refuse changes, its columns and their types, and its primary key
-- without as_of.
select
    case
        when relation.oid is null then 'its table ' || %(relation)s || ' is gone'
        when not exists (
            select from pg_catalog.pg_class where pg_class.oid = relation.oid and relkind in ('r', 'p')
        ) then %(relation)s || ' is no longer a table'
        when exists (
            select from pg_catalog.pg_class as parent
            inner join pg_catalog.pg_inherits on inhparent = parent.oid
            where parent.oid = relation.oid and relkind = 'r'
        ) then %(relation)s || ' has rows of a table that inherits from it'
        when %(parent)s::text is not null and not exists (
            select from pg_catalog.pg_inherits where inhrelid = relation.oid and inhparent = to_regclass(%(parent)s)
        ) then %(relation)s || ' is no longer a part of it'
    end,
    case when 2 <> (
        select count(*)
        from pg_catalog.pg_trigger
        where
            tgrelid = relation.oid
            and tgfoid = to_regprocedure('ops.refuse_change()')
            and tgenabled in ('O', 'A')
            and tgqual is null
            -- statement triggers: 30 is before insert, update or delete; 34 is before truncate
            and tgtype in (30, 34)
    ) then %(relation)s || ' no longer refuses changes: its triggers are not as they were' end,
    (
        select coalesce(jsonb_object_agg(attname, atttypid::regtype), '{}')
        from pg_catalog.pg_attribute
        where attrelid = relation.oid and attnum > 0 and not attisdropped
    ),
    coalesce(array_remove(ops.primary_key(relation.oid), 'as_of'), '{}')
from (values (to_regclass(%(relation)s))) as relation (oid);

-- name: strays
-- Tables of history or of replaced rows that are not in `known`: parts of history tables, and tables that are named like one. Other
-- tables in these schemas are somebody's own. The query does not read the ledger, which may be gone.
select relation.oid::regclass::text
from pg_catalog.pg_class as relation
where
    relation.relkind in ('r', 'p')
    and relation.oid <> all(array(select to_regclass(name) from unnest(%(known)s::text []) as name where to_regclass(name) is not null))
    and (
        (
            relation.relnamespace in (to_regnamespace('history'), to_regnamespace('restated'))
            and relation.relname ~ '_\d\d\d\d_\d\d_\d\d'
        )
        or relation.oid in (
            select inhrelid from pg_catalog.pg_inherits
            where inhparent = any(array(select to_regclass(name) from unnest(%(parents)s::text []) as name))
        )
    )
order by 1;

-- name: filled
select count(*) > 0 from {relation} where not (row({columns}) is null);

-- name: unmerged
-- The dates whose deliveries are not merged into production yet.
select string_agg(as_of::text, ', ' order by as_of) from ops.history where table_name = %s and merged_at is null;

-- name: production
-- Compares the newest delivered row of every customer with the row in production. Rows delivered on archived dates are read from the
-- dates that carry them forward: the newest, and those that were restated or arrived late since. `*=` compares the bytes, so 29.90 and
-- 29.9 differ, but not in a key: production keeps the digits in which it first came.
with newest as (
    select distinct on ({keys}) {columns}
    from {history}
    where
        observed_as_of = as_of
        or (as_of in ({carrying}) and observed_as_of in (select as_of from ops.archived where table_name = {name}))
    order by {keys}, observed_as_of desc
),

actual as (
    select {columns} from {production}
)

select
    count(actual.{key}),
    count(*) filter (where (newest.* *= actual.*) is not true)
from newest
full join actual using ({keys});
