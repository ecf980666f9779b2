-- name: blockers
-- The sessions that hold a lock for which a streamflow session has waited longer than the given seconds: a sentence, and SQL to end it.
-- Row grain: holder and wanted relation. The two threads of a dbt run often wait for each other, so such pairs are left out.
select distinct
    format(
        'session %%s of %%s (%%s), which has a lock on %%s and is %%s',
        holder.pid,
        coalesce(holder.usename, holder.backend_type),
        concat_ws(', ', coalesce(nullif(holder.application_name, ''), 'no name'), holder.client_addr),
        coalesce(wanted.relation::regclass::text, wanted.locktype),
        coalesce(
            holder.state || ', its transaction begun at ' || to_char(holder.xact_start, 'YYYY-MM-DD HH24:MI:SS UTC'),
            'in a state that this role may not see'
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
