-- name: rights
-- What keeps the role that is connected from loading, each with its remedy.
with ours as (
    select name
    from unnest(array['ops', 'staging', 'history', 'restated', 'latest']) as schemas (name)
),

findings as (
    select
        'may not create the schemas ' || string_agg(name, ', ') as lack,
        format('grant create on database %%I to %%I', current_database(), current_user) as remedy
    from ours
    where to_regnamespace(name) is null and not has_database_privilege(current_database(), 'CREATE')
    union all
    select
        'may not create tables in ' || string_agg(nspname, ', ' order by nspname),
        format('grant usage, create on schema %%s to %%I', string_agg(nspname, ', ' order by nspname), current_user)
    from pg_catalog.pg_namespace
    where (nspname = 'public' or nspname in (select name from ours)) and not has_schema_privilege(oid, 'CREATE')
    union all
    select
        format('does not own %%s of the tables and views that are there, such as %%s', count(*), min(oid::regclass::text)),
        'streamflow init --roles, or connect as the role that loads (docs/security.md)'
    from pg_catalog.pg_class
    where
        (
            relnamespace::regnamespace::text in (select name from ours)
            or (relnamespace = 'public'::regnamespace and relname = any(%(relations)s))
        )
        and relkind in ('r', 'p', 'v', 'm') and not pg_has_role(relowner, 'USAGE')
    having count(*) > 0
)

select
    current_user || ' ' || lack,
    'as the owner or a superuser: ' || remedy
from findings
where lack is not null;
