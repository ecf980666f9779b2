-- name: rights
-- One row per right that the connected role needs and lacks, with the remedy.
with ours as (
    select name, to_regnamespace(name) as oid
    from unnest(array['ops', 'staging', 'history', 'restated', 'latest', 'public']) as schemas (name)
)

select
    'may not create the schema ' || name,
    format('as the owner or a superuser: grant create on database %%I to %%I', current_database(), current_user)
from ours
where oid is null and not has_database_privilege(current_database(), 'CREATE')
union all
select
    'may not create tables in ' || name,
    format('connect as the role that loads, or as the owner or a superuser: grant usage, create on schema %%s to %%I', name, current_user)
from ours
where not has_schema_privilege(oid, 'CREATE')
union all
select
    format('does not own %%s of the tables and views that are there, such as %%s', count(*), min(relation.oid::regclass::text)),
    'streamflow init --roles, or connect as the role that loads (docs/security.md)'
from ours
inner join pg_catalog.pg_class as relation on relnamespace = ours.oid and (name <> 'public' or relname = any(%(relations)s))
where relkind in ('r', 'p', 'v', 'm') and not pg_has_role(relowner, 'USAGE')
having count(*) > 0
union all
select
    'sees not all rows of ' || relation.oid::regclass || ', which has row-level security',
    format('as its owner: alter table %%s no force row level security, or disable it', relation.oid::regclass)
from ours
inner join pg_catalog.pg_class as relation on relnamespace = ours.oid and (name <> 'public' or relname = any(%(relations)s))
where relkind in ('r', 'p') and row_security_active(relation.oid);

-- name: collation
-- A row, with the remedy, if a system update has changed how text is sorted.
select
    'the collation is no longer the one that indexes of text were built with, so they may be wrong',
    format('as the owner, while nothing else runs: reindex database %1$I; alter database %1$I refresh collation version', datname)
from pg_catalog.pg_database
where datname = current_database() and datcollversion is distinct from pg_database_collation_actual_version(oid);
