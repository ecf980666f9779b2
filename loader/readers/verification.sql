-- name: unlinked
-- The publications that the chain does not tell of.
select 'the publication of month ' || month || ' by load ' || load_id || ' is none that it tells of'
from ops.published
where load_id not in (select (tells ->> 'load')::bigint from ops.chain where tells ->> 'event' = 'published')
order by load_id;

-- name: functions
select proname, prosrc from pg_catalog.pg_proc where pronamespace = 'ops'::regnamespace;

-- name: ledger_as_it_is
select
    (select max(link) from ops.chain) as link,
    (select md5(string_agg(history::text, ' ' order by history.table_name, history.as_of)) from ops.history as history) as history;

-- name: relation
-- What is wrong with the table of an entry, and with the triggers that refuse changes; its columns, those of its primary key but as_of.
select
    case
        when relation.oid is null then 'its table ' || %(relation)s || ' is gone'
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
            -- before a statement that inserts, updates or deletes, and before truncate
            and tgtype in (30, 34)
    ) then %(relation)s || ' no longer refuses changes: its triggers are not as they were' end,
    array(
        select attname::text
        from pg_catalog.pg_attribute
        where attrelid = relation.oid and attnum > 0 and not attisdropped
        order by attnum
    ),
    array(
        select attname::text
        from pg_catalog.pg_index
        cross join unnest(indkey) with ordinality as key (number, place)
        inner join pg_catalog.pg_attribute on attrelid = indrelid and attnum = number
        where indrelid = relation.oid and indisprimary and attname <> 'as_of'
        order by place
    )
from (values (to_regclass(%(relation)s))) as relation (oid);

-- name: strays
-- What history shows or kept, and is no table of an entry. Asks nothing of the ledger, which may be gone.
select relation.oid::regclass::text
from pg_catalog.pg_class as relation
where
    relation.relkind in ('r', 'p')
    and relation.oid <> all(array(select to_regclass(name) from unnest(%(known)s::text []) as name where to_regclass(name) is not null))
    and (
        relation.relnamespace in (to_regnamespace('history'), to_regnamespace('restated'))
        or relation.oid in (
            select inhrelid from pg_catalog.pg_inherits
            where inhparent = any(array(select to_regclass(name) from unnest(%(parents)s::text []) as name))
        )
    )
order by 1;

-- name: filled
select count(*) > 0 from {relation} where not (row({columns}) is null);

-- name: unmerged
-- The dates whose deliveries production has yet to take in.
select string_agg(as_of::text, ', ' order by as_of) from ops.history where table_name = %s and merged_at is null;

-- name: production
-- The newest delivered row of every customer, of archived dates as the newest one carried it forward, beside the row that
-- production has; equal numbers differ by their digits.
with newest as (
    select distinct on ({keys}) {columns}
    from {history}
    where
        observed_as_of = as_of
        or (
            as_of = (select max(as_of) from ops.standing_history where table_name = {name})
            and observed_as_of in (select as_of from ops.archived where table_name = {name})
        )
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
