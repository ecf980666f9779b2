-- name: load
-- The attempt that published the month.
select started_by, started_at, finished_at, data_dir, reason, files, timings, versions
from ops.loads
where load_id = %(load_id)s;

-- name: customers
-- One row: how many customers of a table came, went and came back, and in how many of the delivered rows that were known on the date
-- before each column changed. If the table has no history on that date, all have gone.
select
    %(table)s::text as table_name,
    coalesce(history.rows_total, 0) as customers_known,
    coalesce(history.rows_delivered, 0) as customers_delivered,
    before.rows_delivered as delivered_before,
    (coalesce(history.rows_delivered, 0) - before.rows_delivered) / nullif(before.rows_delivered, 0)::double precision as change,
    counted.new as customers_new,
    -- a month that arrived late or was restated since may have delivered customers whom the newer history does not know
    coalesce(before.rows_delivered, 0) - counted.delivered_again as customers_departed,
    counted.returned as customers_returned,
    counted.compared_rows,
    counted.changed_rows,
    history.rows_inserted,
    history.rows_updated
from (
    select
        count(*) - count(older.{key}) as new,
        count(*) filter (where older.observed_as_of = older.as_of) as delivered_again,
        count(*) filter (where older.observed_as_of < older.as_of) as returned,
        count(older.{key}) as compared_rows,
        array[{changed}]::bigint [] as changed_rows
    from (select * from {history} where as_of = %(as_of)s and observed_as_of = as_of) as newer
    left join (select * from {history} where as_of = %(previous)s) as older using ({keys})
) as counted
left join ops.history as before on before.table_name = %(table)s and before.as_of = %(previous)s
left join ops.history as history on history.table_name = %(table)s and history.as_of = %(as_of)s;

-- name: changed
count(older.{key}) filter (where newer.{column} is distinct from older.{column});

-- name: trend
-- The key numbers of each published month up to this one, from the ledger alone, so archived months count too. A month carries
-- forward customers that it does not deliver, so history grows by the new ones, unless months arrived late or were restated.
select
    published.month,
    published.as_of,
    published.published_at,
    history.rows_delivered as delivered,
    case
        when lag(history.rows_total) over by_date is not null
            then greatest(history.rows_total - lag(history.rows_total) over by_date, 0)
    end as growth,
    history.rows_total - history.rows_delivered as carried_forward,
    (
        select sum(each.rows_updated)
        from ops.history as each
        where each.as_of = published.as_of
    )::bigint as updated,
    verdicts.passed,
    verdicts.warned
from public.published_months as published
cross join
    lateral (
        select
            count(*) filter (where status = 'pass') as passed,
            count(*) filter (where status = 'warn') as warned
        from ops.audits
        where load_id = published.load_id
    ) as verdicts
inner join ops.history as history on published.as_of = history.as_of and history.table_name = %(table)s
where published.as_of <= %(as_of)s::date
window by_date as (order by published.as_of)
order by published.as_of;

-- name: ages
select %(table)s::text as table_name, observed_as_of, count(*) as customers
from {history}
where as_of = %(as_of)s
group by observed_as_of
order by observed_as_of desc;

-- name: audits
-- One row per audit, with one verdict per load, null if the audit did not run. Audits that have not always passed come first.
with known as (
    select distinct on (audit_id) audit_id, audit_name, table_name, severity
    from ops.audits
    where load_id = any(%(loads)s::bigint [])
    order by audit_id, load_id
)

select
    known.audit_name,
    known.table_name,
    known.severity,
    jsonb_agg(
        case when audits.status is not null then jsonb_build_array(audits.status, audits.failures) end
        order by loads.place
    ) as verdicts
from known
cross join unnest(%(loads)s::bigint []) with ordinality as loads (load_id, place)
left join ops.audits as audits on known.audit_id = audits.audit_id and loads.load_id = audits.load_id
group by known.audit_id, known.audit_name, known.table_name, known.severity
order by bool_and(coalesce(audits.status, 'pass') = 'pass'), known.table_name, known.audit_name;
