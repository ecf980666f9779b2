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
    format('as the owner or a superuser: grant usage, create on schema %%s to %%I', name, current_user)
from ours
where not has_schema_privilege(oid, 'CREATE')
union all
select
    format('does not own %%s of the tables and views that are there, such as %%s', count(*), min(relation.oid::regclass::text)),
    'streamflow init --roles, or connect as the role that loads (docs/security.md)'
from ours
inner join pg_catalog.pg_class as relation on relnamespace = ours.oid and (name <> 'public' or relname = any(%(relations)s))
where relkind in ('r', 'p', 'v', 'm') and not pg_has_role(relowner, 'USAGE')
having count(*) > 0;
