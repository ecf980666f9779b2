-- name: locked
-- Whether somebody holds the advisory lock of a run.
select exists (
    select 1
    from pg_catalog.pg_locks
    where
        locktype = 'advisory' and granted and (classid, objid, objsubid) = (%s, %s, 2)
        and database = (select oid from pg_catalog.pg_database where datname = current_database())
);
