-- name: blockers
-- Who holds a lock that a session of streamflow has been waiting for longer than some seconds: a sentence, and what ends it.
-- Row grain: session that holds one. The two threads of a dbt run wait for each other as a matter of course.
select distinct
    format(
        'session %%s of %%s (%%s), which has a lock on %%s and is %%s',
        holder.pid,
        coalesce(holder.usename, holder.backend_type),
        concat_ws(', ', coalesce(nullif(holder.application_name, ''), 'no name'), holder.client_addr),
        coalesce(wanted.relation::regclass::text, wanted.locktype),
        coalesce(
            holder.state || ', its transaction begun at ' || to_char(holder.xact_start, 'YYYY-MM-DD HH24:MI:SS UTC'),
            'of a role whose doings this one may not see'
        )
    ) as who,
    format('select pg_terminate_backend(%%s)', holder.pid) as remedy
from pg_stat_activity as waiting
inner join pg_locks as wanted on waiting.pid = wanted.pid and not wanted.granted
inner join pg_stat_activity as holder on holder.pid = any(pg_blocking_pids(waiting.pid))
where
    waiting.datname = current_database()
    and waiting.application_name in ('streamflow', 'streamflow dbt')
    and (waiting.application_name, holder.application_name) <> ('streamflow dbt', 'streamflow dbt')
    and clock_timestamp() - wanted.waitstart > make_interval(secs => %s);
