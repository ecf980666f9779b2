-- name: load
-- The attempt that published the month.
select started_by, started_at, finished_at, data_dir, reason, files, timings, versions
from ops.loads
where load_id = %(load_id)s;

-- name: customers
-- Who came, went and came back, per table; a table of which nothing is known counts nobody. Both dates are named, so that
-- the planner reads two partitions and no other.
select
    tables.name as table_name,
    coalesce(users.customers_known, 0) as customers_known,
    coalesce(users.customers_delivered, 0) as customers_delivered,
    before.rows_delivered as delivered_before,
    (users.customers_delivered - before.rows_delivered) / before.rows_delivered::double precision as change,
    coalesce(users.customers_new, 0) as customers_new,
    coalesce(users.customers_departed, 0) as customers_departed,
    coalesce(users.customers_returned, 0) as customers_returned,
    users.compared_rows,
    users.changed_rows,
    history.rows_inserted,
    history.rows_updated
from unnest(%(tables)s::text []) with ordinality as tables (name, place)
left join public.report_users as users
    on tables.name = users.table_name and users.as_of = %(as_of)s and users.previous_as_of {is_previous}
left join ops.history as before on tables.name = before.table_name and before.as_of = %(previous)s::date
left join ops.history as history on tables.name = history.table_name and history.as_of = %(as_of)s
order by tables.place;

-- name: columns
-- Per column the profiles of both months, and the bins of both: the deciles of the older month for numbers and dates, the twenty
-- most frequent values for text and booleans. Each value is counted once for all of it; both dates are named, so that the planner
-- reads two partitions and no other.
with counted as materialized (
    select
        as_of = %(as_of)s::date as is_now,
        table_name,
        column_name,
        data_type,
        kind,
        number,
        category,
        delivered_rows
    from public.report_value_counts
    where as_of in (%(as_of)s::date, %(previous)s::date)
),

profiles as (
    select
        is_now,
        table_name,
        column_name,
        jsonb_build_object(
            'table_name', table_name,
            'column_name', column_name,
            'data_type', data_type,
            'delivered_rows', sum(delivered_rows),
            'null_rows', coalesce(sum(delivered_rows) filter (where number is null and category is null), 0),
            'null_share',
            coalesce(sum(delivered_rows) filter (where number is null and category is null), 0)::double precision
            / sum(delivered_rows),
            'mean', sum(number * delivered_rows) / (max(last_place) + 1),
            'quantiles', case when max(last_place) is not null then array[{quantiles}] end
        ) as profile
    from (
        select
            *,
            sum(delivered_rows) over (of_column order by number) as rows_up_to,
            sum(delivered_rows) filter (where number is not null) over of_column - 1::double precision as last_place
        from counted
        window of_column as (partition by is_now, table_name, column_name)
    ) as placed
    group by is_now, table_name, column_name, data_type
),

both_months as (
    select
        table_name,
        column_name,
        kind,
        number,
        category,
        coalesce(sum(delivered_rows) filter (where not is_now), 0) as rows_before,
        coalesce(sum(delivered_rows) filter (where is_now), 0) as rows_now
    from counted
    where %(previous)s::date is not null
    group by table_name, column_name, kind, number, category
),

placed as (
    select
        *,
        sum(rows_before) over (of_column order by number) - rows_before as rows_below,
        sum(rows_before) filter (where number is not null) over of_column as numbers_before,
        row_number() over (of_column order by category is null, rows_before + rows_now desc, category) as place
    from both_months
    window of_column as (partition by table_name, column_name)
),

-- a value is in decile d where fewer than d tenths of the older month's values, and not fewer than d - 1 tenths, are below it
numbered as (
    select
        *,
        case
            when kind = 'number' and number is not null
                then least(10, floor(10 * rows_below / nullif(numbers_before, 0))::int + 1)
            when category is not null then least(21, place)
        end as bin
    from placed
),

bins as (
    select
        table_name,
        column_name,
        bin,
        case when kind = 'number' and bin < 10 then max(number) filter (where rows_before > 0) end as upper_bound,
        case when bin <= 20 then max(category) end as category,
        sum(rows_before)::bigint as rows_before,
        sum(rows_now)::bigint as rows_now
    from numbered
    group by table_name, column_name, kind, bin
),

distributions as (
    select
        table_name,
        column_name,
        jsonb_agg(to_jsonb(bounded) order by bounded.bin) as bins
    from (
        select
            *,
            case when bin is not null then lag(upper_bound) over (partition by table_name, column_name order by bin) end as lower_bound
        from bins
    ) as bounded
    group by table_name, column_name
    having sum(rows_before) > 0
)

select
    now.profile as now,
    before.profile as before,
    coalesce(distributions.bins, '[]') as bins
from profiles as now
left join profiles as before
    on now.table_name = before.table_name and now.column_name = before.column_name and not before.is_now
left join distributions on now.table_name = distributions.table_name and now.column_name = distributions.column_name
where now.is_now;

-- name: quantile
-- Interpolated as percentile_cont does: between the two values beside the place share * last_place.
min(number) filter (where rows_up_to > floor({share} * last_place))
+ (
    min(number) filter (where rows_up_to > ceil({share} * last_place))
    - min(number) filter (where rows_up_to > floor({share} * last_place))
) * max({share} * last_place - floor({share} * last_place));

-- name: trend
-- The key numbers of each published month up to this one, from the ledger alone, whatever is archived. Whom a month did not
-- deliver is carried forward, so new customers are what history grows by; after a month that came late, it may shrink.
select
    published.month,
    published.as_of,
    published.published_at,
    history.rows_delivered as delivered,
    case
        when lag(history.rows_total) over by_date is not null
            then greatest(history.rows_total - lag(history.rows_total) over by_date, 0)
    end as new,
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
select table_name, observed_as_of, customers
from public.report_freshness
where as_of = %(as_of)s
order by table_name, observed_as_of desc;

-- name: audits
-- One row an audit, one verdict a load, null where it did not run; those that have not always passed come first.
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

-- name: warnings
select audit_name as audit, table_name as "table", column_name as "column", failures, finding
from ops.audits
where load_id = %(load_id)s and status = 'warn'
order by audit_name;

-- name: waivers
select audit_name as audit, waived_by as "by", waived_at::text as "at", reason
from ops.waivers
where load_id = %(load_id)s
order by audit_name;
