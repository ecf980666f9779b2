-- name: begin
insert into ops.loads (command, month, as_of, started_by, data_dir, versions, restates, reason)
values (%s, %s, %s, %s, %s, %s, %s, %s)
returning load_id;

-- name: waive
insert into ops.waivers (load_id, audit_name, reason, waived_by) values (%s, %s, %s, %s);

-- name: waivers
select audit_name, reason, waived_by, waived_at from ops.waivers where load_id = %s order by audit_name;

-- name: finish
update ops.loads
set state = %s, timings = %s, failed_nodes = %s, error = %s, finished_at = clock_timestamp()
where load_id = %s;

-- name: mark_interrupted
update ops.loads set state = 'interrupted', finished_at = clock_timestamp() where state = 'running';

-- name: stage
insert into ops.staged (table_name, load_id, as_of, row_count) values (%s, %s, %s, %s);

-- name: register_run
insert into ops.runs (invocation_id, lock_holder) values (%s, pg_backend_pid()) on conflict do nothing;

-- name: dbt_by_hand
select
    format(
        'dbt run by hand by %%s from %%s (server process %%s), under way since %%s',
        usename, coalesce(client_addr::text, 'the server itself'), pid, to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS UTC')
    )
from pg_locks
inner join pg_stat_activity using (pid)
where locktype = 'advisory' and (classid::int, objid::int) = (%s, %s) and mode = 'ShareLock'
limit 1;

-- name: running
select command, month, started_by, to_char(started_at, 'YYYY-MM-DD HH24:MI:SS UTC')
from ops.loads
where state = 'running'
order by load_id desc
limit 1;

-- name: lock_is_held
select
    exists (
        select 1 from pg_locks
        where
            locktype = 'advisory' and granted and (classid::int, objid::int, objsubid) = (%s, %s, 2)
            and database = (select oid from pg_database where datname = current_database())
    );

-- name: history_on
select
    history.table_name,
    history.rows_delivered,
    own.inserted,
    own.updated,
    history.rows_delivered - own.inserted - own.updated as unchanged,
    history.rows_total - history.rows_delivered as carried_forward,
    file ->> 'sha256' as sha256
from ops.standing_history as history
inner join ops.loads as loads on history.load_id = loads.load_id
left join lateral jsonb_array_elements(loads.files) as file on file ->> 'table' = history.table_name
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
-- The tables of which a delivery for a date may lack the file: what was published for it had none, or others were published before
-- the table's first date.
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

-- name: left_to_build
select case when state = 'published' then failed_nodes else array['published_months+'] end
from ops.loads
where as_of = %s and command = 'ingest' and state in ('published', 'failed', 'interrupted')
order by load_id desc
limit 1;

-- name: standing
-- One row: what was published for a date and is seen by readers, whether that is the newest that stands and production has all of it,
-- where it is archived, and the tables that have history and are gone.
select
    exists (select from ops.published as published where published.as_of = %(as_of)s) as was_published,
    (select min(archived.folder) from ops.archived as archived where archived.as_of = %(as_of)s) as archived_in,
    seen.load_id,
    seen.month,
    coalesce(seen.is_merged and seen.load_id = seen.newest_load, false) as is_finished,
    array(
        select distinct 'public.' || expected.name
        from ops.history as history
        cross join lateral (values (history.table_name), (history.table_name || '_snapshots')) as expected (name)
        where to_regclass(format('public.%%I', expected.name)) is null
        order by 1
    ) as gone
from (values (1)) as always (one)
left join lateral (
    select published.load_id, published.month, complete.is_merged, max(complete.load_id) over () as newest_load
    from ops.complete_loads as complete
    left join ops.published as published on complete.load_id = published.load_id
    where complete.as_of = %(as_of)s
    order by published.load_id desc nulls last
    limit 1
) as seen on true;

-- name: is_unaudited
-- Whether staging still holds a load that has no verdict, as its run was cut off once its audits had passed.
select exists (
    select from ops.staged
    where as_of = %s and load_id not in (select audits.load_id from ops.audits as audits)
);
