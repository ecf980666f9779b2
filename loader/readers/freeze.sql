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

-- name: rights
-- SQL that lets whoever may read all rows of a table, except its owner, read its view. If the table has row-level security, which the
-- view does not apply, SQL that takes the view from whoever may read it, except its owner and the roles that this security never binds.
select distinct
    format(
        case
            when tables.relrowsecurity then 'revoke select on %%1$I.%%2$I from %%3$s cascade'
            else 'grant usage on schema %%1$I to %%3$s; grant select on %%1$I.%%2$I to %%3$s'
        end,
        %(schema)s::text, tables.relname, case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end
    )
from pg_catalog.pg_class as tables
inner join pg_catalog.pg_class as readable
    on case when tables.relrowsecurity then to_regclass(format('%%I.%%I', %(schema)s::text, tables.relname)) else tables.oid end = readable.oid
cross join aclexplode(readable.relacl) as acl
left join pg_catalog.pg_roles as roles on acl.grantee = roles.oid
where
    tables.oid = to_regclass(format('public.%%I', %(table)s::text))
    and acl.privilege_type = 'SELECT' and acl.grantee <> readable.relowner
    and not (tables.relrowsecurity and coalesce(roles.rolsuper or roles.rolbypassrls, false));
