-- name: waivers
select audit_name, reason, waived_by, waived_at from ops.waivers where load_id = %s order by audit_name;

-- name: history_on
select
    history.table_name,
    history.rows_delivered,
    own.inserted,
    own.updated,
    history.rows_delivered - own.inserted - own.updated as unchanged,
    history.rows_total - history.rows_delivered as carried_forward,
    files.content,
    (history.table_name, history.as_of) in (select table_name, as_of from ops.outdated_history) as is_outdated
from ops.standing_history as history
left join ops.landed_files as files on files.load_id = history.load_id and files.table_name = history.table_name
cross join lateral (
    select
        case when history.load_id = %(load_id)s then coalesce(history.rows_inserted, 0) else 0 end as inserted,
        case when history.load_id = %(load_id)s then coalesce(history.rows_updated, 0) else 0 end as updated
) as own
where history.as_of = %(as_of)s;

-- name: audits
select audit_id, audit_name, table_name, column_name, severity, status, failures, finding
from ops.audits
where load_id = %s
order by array_position(array['fail', 'warn', 'pass'], status), audit_name;

-- name: came_later
-- The tables whose file a delivery for a date may lack: the date is published or complete without the table, or lies before the table's
-- first date, and some month was published before that.
select declared.name
from unnest(%(tables)s::text []) as declared (name)
cross join lateral (
    select min(as_of) as first_date, coalesce(bool_or(as_of = %(as_of)s), false) as is_there
    from ops.history
    where table_name = declared.name
) as known
where
    not known.is_there
    and (
        exists (select from ops.published as published where published.as_of = %(as_of)s)
        or exists (select from ops.complete_loads as complete where complete.as_of = %(as_of)s)
        or (
            known.first_date > %(as_of)s
            and exists (select from ops.published as published where published.as_of < known.first_date)
        )
    );

-- name: other_date
-- The newest as_of for which the month is published, if it is not published for the given as_of.
select max(published.as_of)
from ops.published as published
where published.month = %(month)s
having max(published.as_of) is not null and not bool_or(published.as_of = %(as_of)s);

-- name: other_first_month
-- The newest published month, if no published month implies the same first month as the given month and as_of do.
with counted as (
    select month, as_of, extract(year from as_of) * 12 + extract(month from as_of) - month::int as first_month
    from ops.published
)

select month, as_of
from counted
where not exists (
    select from counted as every
    where every.first_month = extract(year from %(as_of)s::date) * 12 + extract(month from %(as_of)s::date) - %(month)s::int
)
order by as_of desc
limit 1;

-- name: left_to_build
select case when state = 'published' then failed_nodes end
from ops.loads
where as_of = %s and command = 'ingest' and state in ('published', 'failed', 'interrupted')
order by load_id desc
limit 1;

-- name: standing
-- One row: the publication that readers see for a date, whether it is the newest complete load and production has all of it, and
-- the folder in which it is archived.
select
    exists (select from ops.published as published where published.as_of = %(as_of)s) as was_published,
    (select min(archived.folder) from ops.archived as archived where archived.as_of = %(as_of)s) as archived_in,
    seen.load_id,
    seen.month,
    coalesce(seen.is_merged and seen.load_id = seen.newest_load, false) as is_finished
from (values (1)) as always (one)
left join lateral (
    select published.load_id, published.month, complete.is_merged, max(complete.load_id) over () as newest_load
    from ops.complete_loads as complete
    left join ops.published as published on complete.load_id = published.load_id
    where complete.as_of = %(as_of)s
    order by published.load_id desc nulls last
    limit 1
) as seen on true;

-- name: gone
-- The tables that have history but do not exist.
select distinct 'public.' || expected.name
from ops.history as history
cross join lateral (values (history.table_name), (history.table_name || '_snapshots')) as expected (name)
where to_regclass(format('public.%I', expected.name)) is null
order by 1;

-- name: is_unaudited
-- Whether staging still holds a load without verdicts, because its run was cut off after its audits had passed.
select exists (
    select from ops.staged
    where as_of = %s and load_id not in (select audits.load_id from ops.audits as audits)
);
