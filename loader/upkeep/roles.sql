-- name: powers
-- What an existing role may do beyond loading or reading; no row if nothing.
select string_agg(power, ', ')
from pg_catalog.pg_roles as roles
inner join pg_catalog.pg_database as databases on databases.datname = current_database()
cross join lateral (
    values
    (roles.rolname = current_user, 'it runs this command'),
    (roles.rolsuper, 'superuser'),
    (roles.rolcreatedb, 'createdb'),
    (roles.rolcreaterole, 'createrole'),
    (roles.rolreplication, 'replication'),
    (roles.rolbypassrls, 'bypassrls'),
    (pg_has_role(roles.oid, databases.datdba, 'MEMBER') and not roles.rolsuper, 'rights of the database''s owner')
) as may (is_so, power)
where roles.rolname = %(role)s and is_so
having count(*) > 0;

-- name: creators
-- Who may create functions where the ledger's statements look for them, besides this role and superusers, with the remedy.
-- `is_expected`: one of the given roles, the owner of the database or of the ledger, or a role that this one is in.
with grants as (
    select acl.grantee, string_agg(nspname, ', ' order by nspname) as schemas
    from pg_catalog.pg_namespace
    cross join aclexplode(coalesce(nspacl, acldefault('n', nspowner))) as acl
    where nspname in ('public', 'ops', 'staging', 'history', 'restated', 'latest') and acl.privilege_type = 'CREATE'
    group by acl.grantee
)

select
    coalesce('the role ' || rolname, 'every role') || ' may create functions in ' || schemas
        || ', which could run with the rights of this one',
    format('as its owner or a superuser: revoke create on schema %%s from %%s', schemas, coalesce(quote_ident(rolname), 'public')),
    coalesce(
        rolname = any(%s) or roles.oid = datdba
        or roles.oid in (select roleid from pg_catalog.pg_auth_members where member = to_regrole(quote_ident(current_user)))
        or roles.oid in (select relowner from pg_catalog.pg_class where relname = 'loads' and relnamespace = to_regnamespace('ops')),
        false
    ) as is_expected
from grants
inner join pg_catalog.pg_database on datname = current_database()
left join pg_catalog.pg_roles as roles on roles.oid = case grantee when 'pg_database_owner'::regrole then datdba else grantee end
where not coalesce(rolsuper or rolname = current_user, false)
order by schemas, rolname;

-- name: join_loader
-- An administrator who is not a superuser must be a member of the loader, to hand tables over and to read them afterwards. Citus 13.0
-- makes a grant with options on the coordinator only, and one without them on every node.
select format('grant %1$I to %2$I; grant %1$I to %2$I with inherit true, set true', loader.rolname, current_user)
from pg_catalog.pg_roles as loader
where loader.rolname = {loader_name} and not (pg_has_role(loader.oid, 'USAGE') and pg_has_role(loader.oid, 'SET'));

-- name: rights
-- What both roles may do, apart from the loader's ownership of its objects. dbt's unit tests need temporary tables.
create schema if not exists ops;
create schema if not exists staging;
create schema if not exists history;
create schema if not exists restated;
create schema if not exists latest;

revoke create on database {database} from {reader};
grant connect, temporary on database {database} to {loader};
grant connect on database {database} to {reader};
grant usage, create on schema ops, staging, history, restated, latest, public to {loader};
revoke all on schema ops, staging, history, restated, latest, public from {reader};
grant usage on schema latest, public to {reader};
alter default privileges for role {loader} in schema latest, public grant select on tables to {reader};

-- name: hand_over
-- One statement per object that the loader does not own yet: everything in streamflow's own schemas, among them those of
-- past dates, and its relations in public. Their names do not come from the ledger: the loader can write to it, and could
-- claim somebody else's table.
-- A column's sequence changes owner with its table. Citus needs routines before tables, which `order by 1` gives.
with ours as (
    select oid
    from pg_catalog.pg_namespace
    where nspname in ('ops', 'staging', 'history', 'restated', 'latest') or nspname ~ '^as_of_\d{{4}}_\d\d_\d\d$'
)

select format('alter routine %s owner to %I', routines.oid::regprocedure, {loader_name})
from pg_catalog.pg_proc as routines
where routines.pronamespace in (select ours.oid from ours) and pg_get_userbyid(routines.proowner) <> {loader_name}
union all
select format('alter schema %I owner to %I', schemas.nspname, {loader_name})
from pg_catalog.pg_namespace as schemas
where schemas.nspname ~ '^as_of_\d{{4}}_\d\d_\d\d$' and pg_get_userbyid(schemas.nspowner) <> {loader_name}
union all
select format('alter table %s owner to %I', relations.oid::regclass, {loader_name})
from pg_catalog.pg_class as relations
where
    (
        relations.relnamespace in (select ours.oid from ours)
        or (relations.relnamespace = 'public'::regnamespace and relations.relname = any({relations}::text []))
    )
    and relations.relkind in ('r', 'p', 'v', 'm', 'f')
    and pg_get_userbyid(relations.relowner) <> {loader_name}
order by 1;

-- name: let_read
-- One statement per table and view that the reader may read. A cluster also checks its rights on the tables behind the views.
select format('revoke all on table %1$s from %2$I; grant select on table %1$s to %2$I', relations.oid::regclass, {reader_name})
from pg_catalog.pg_class as relations
where
    relations.relkind in ('r', 'p', 'v', 'm', 'f')
    and (
        relations.relnamespace::regnamespace::text = 'latest'
        or relations.relnamespace::regnamespace::text ~ '^as_of_\d{{4}}_\d\d_\d\d$'
        or (relations.relnamespace = 'public'::regnamespace and relations.relname = any({relations}::text []))
    )
union all
select format('grant usage on schema %I to %I', schemas.nspname, {reader_name})
from pg_catalog.pg_namespace as schemas
where schemas.nspname ~ '^as_of_\d{{4}}_\d\d_\d\d$'
union all
select format(
    'grant usage on schema ops to %1$I; grant select on ops.loads, ops.history, ops.published, ops.chain to %1$I',
    {reader_name}
)
where to_regclass('pg_catalog.pg_dist_partition') is not null and to_regclass('ops.loads') is not null;

-- name: notes
-- Notes on rights that a role has from elsewhere: from PUBLIC, or as a member of other roles.
select note
from pg_catalog.pg_roles as roles
cross join lateral (
    select roles.rolname || ' may create schemas in this database, which was granted to it, to PUBLIC or to a role it is in'
    where has_database_privilege(roles.oid, current_database(), 'CREATE')
    union all
    select distinct format('%s is a member of %s and has its rights too', roles.rolname, pg_get_userbyid(members.roleid))
    from pg_catalog.pg_auth_members as members
    where members.member = roles.oid
) as found (note)
where roles.rolname in ({loader_name}, {reader_name})
order by roles.rolname = {reader_name}, note;
