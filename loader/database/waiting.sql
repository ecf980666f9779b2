-- name: blockers
-- The sessions that hold a lock for which a streamflow session has waited longer than the given seconds: a sentence, and SQL to end it.
-- Row grain: holder and wanted relation. The two threads of a dbt run often wait for each other, so such pairs are left out.
with waiting as (
    select wanted.pid, application_name, locktype, database, relation
    from pg_stat_activity
    inner join pg_locks as wanted on pg_stat_activity.pid = wanted.pid and not wanted.granted
    where
        datname = current_database() and application_name in ('streamflow', 'streamflow dbt')
        and clock_timestamp() - waitstart > make_interval(secs => %(patience)s)
)

select distinct
    format(
        'session %%s of %%s (%%s), which has a lock on %%s and is %%s',
        holder.pid,
        coalesce(holder.usename, holder.backend_type),
        concat_ws(', ', coalesce(nullif(holder.application_name, ''), 'no name'), holder.client_addr),
        coalesce(waiting.relation::regclass::text, waiting.locktype),
        coalesce(
            holder.state || ', its transaction begun at ' || to_char(holder.xact_start, 'YYYY-MM-DD HH24:MI:SS UTC'),
            'in a state that this role may not see'
        )
    ) as who,
    format('select pg_terminate_backend(%%s)', holder.pid) as remedy
from waiting
inner join pg_stat_activity as holder on holder.pid = any(pg_blocking_pids(waiting.pid))
where (waiting.application_name, holder.application_name) <> ('streamflow dbt', 'streamflow dbt')
union all
select distinct
    format('the prepared transaction %%s of %%s, begun at %%s', held.gid, held.owner, to_char(held.prepared, 'YYYY-MM-DD HH24:MI:SS UTC')),
    format('rollback prepared %%L', held.gid)
from waiting
inner join pg_locks as holder
    on holder.pid is null and holder.granted
    and (holder.locktype, holder.database, holder.relation) = (waiting.locktype, waiting.database, waiting.relation)
inner join pg_locks as own on holder.virtualtransaction = own.virtualtransaction and own.pid is null and own.locktype = 'transactionid'
inner join pg_prepared_xacts as held on own.transactionid = held.transaction
where 0 = any(pg_blocking_pids(waiting.pid));  -- 0 is a prepared transaction
