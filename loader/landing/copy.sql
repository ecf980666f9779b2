-- name: stranger
-- One row where a staging table's name is taken by what streamflow has not made: its own are unlogged and not vacuumed.
select relkind
from pg_class
where
    oid = to_regclass(format('staging.%%I', %s::text))
    and (relkind, relpersistence, coalesce('autovacuum_enabled=off' = any(reloptions), false)) <> ('r', 'u', true);
