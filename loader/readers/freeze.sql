-- name: view
-- The WITH makes the view read-only: PostgreSQL allows writes through a plain view of one table.
create or replace view {view} as
with known as (
    select {columns}
    from {history}
    where
        as_of = {as_of}
        -- hide the month while its restatement is unfinished
        and exists (
            select 1 from ops.published as published
            inner join ops.complete_loads as complete on published.load_id = complete.load_id
            where published.as_of = {as_of}
        )
)

select {columns} from known;

-- name: readers
-- The roles that may read all rows of a table, except its owner; names are quoted where necessary.
select distinct case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end
from pg_catalog.pg_class as tables
cross join aclexplode(tables.relacl) as acl
where
    tables.oid = to_regclass(format('public.%%I', %(table)s::text))
    and not tables.relrowsecurity and acl.privilege_type = 'SELECT' and acl.grantee <> tables.relowner;

-- name: not_readers
-- The roles that may read a view, except its owner, though its table has row-level security, which the view does not apply.
select distinct case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end
from pg_catalog.pg_class as views
cross join aclexplode(views.relacl) as acl
where
    views.oid = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text)) and acl.grantee <> views.relowner
    and acl.privilege_type = 'SELECT'
    and acl.grantee not in (select roles.oid from pg_catalog.pg_roles as roles where roles.rolsuper or roles.rolbypassrls)
    and exists (
        select from pg_catalog.pg_class as tables
        where tables.oid = to_regclass(format('public.%%I', %(table)s::text)) and tables.relrowsecurity
    );

-- name: revoke
revoke select on {view} from {reader} cascade;

-- name: grant
grant usage on schema {schema} to {reader};
grant select on {view} to {reader};
