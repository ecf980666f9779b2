-- name: stranger
-- One row if the staging table's name is taken by a relation that streamflow did not make: its own are unlogged, without autovacuum.
select relkind
from pg_class
where
    oid = to_regclass(format('staging.%%I', %s::text))
    and (relkind, relpersistence, coalesce('autovacuum_enabled=off' = any(reloptions), false)) <> ('r', 'u', true);

-- name: running
-- One row unless another attempt has begun since, which ends all that were under way.
select load_id from ops.loads where load_id = %s and state = 'running';
