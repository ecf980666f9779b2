-- name: begin
insert into ops.loads (command, month, as_of, started_by, data_dir, versions, restates, reason)
values (%s, %s, %s, %s, %s, %s, %s, %s)
returning load_id;

-- name: waive
insert into ops.waivers (load_id, audit_name, reason, waived_by) values (%s, %s, %s, %s);

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

-- name: holder
-- The holder of this database's run lock, and when its session began, null without the right to see that. Only dbt run by hand shares the
-- lock; an exclusive holder gives null, as the ledger names it. Last whose session it is: any role may take the lock.
select
    case when mode = 'ShareLock' then format(
        'dbt run by hand by %%s from %%s (server process %%s), under way since %%s',
        usename, coalesce(client_addr::text, 'the server itself'), pid, to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS UTC')
    ) end,
    backend_start,
    format('%%s (server process %%s)', usename, pid)
from pg_locks
left join pg_stat_activity using (pid)
where
    locktype = 'advisory' and granted and (classid::int, objid::int, objsubid) = (%s, %s, 2)
    and database = (select oid from pg_database where datname = current_database())
limit 1;

-- name: running
select command, month, started_by, to_char(started_at, 'YYYY-MM-DD HH24:MI:SS UTC')
from ops.loads
where state = 'running' and started_at >= coalesce(%s, started_at)
order by load_id desc
limit 1;
