-- name: columns
-- One row per column to change and table or view that has it under its old or new name, with SQL to rename and to retype it.
-- Check constraints of staging depend on the type: `checks` drops them, and the next landing makes them again.
select
    relation.oid::regclass::text as relation,
    attname::text as name_there,
    wanted.column_name,
    relkind <> 'v' and format_type(atttypid, atttypmod) <> wanted.data_type as is_retyped,
    format('alter table %%s rename column %%I to %%I', relation.oid::regclass, attname, wanted.column_name) as rename,
    format('alter table %%s alter column %%I type %%s', relation.oid::regclass, wanted.column_name, wanted.data_type) as retype,
    array(
        select format('alter table %%s drop constraint %%I', conrelid::regclass, conname)
        from pg_catalog.pg_constraint
        where
            conrelid = relation.oid and attnum = any(conkey) and contype = 'c'
            and connamespace = 'staging'::regnamespace
    ) as checks
from unnest(%(tables)s::text [], %(columns)s::text [], %(befores)s::text [], %(type_afters)s::text [])
    as wanted (table_name, column_name, name_before, data_type)
inner join pg_catalog.pg_class as relation
    on (
        relname in (wanted.table_name, wanted.table_name || '_snapshots')
        and relnamespace::regnamespace::text ~ '^(public|staging|latest|as_of_[0-9]{4}_[0-9]{2}_[0-9]{2})$'
    )
    or relation.oid in (
        select to_regclass(format('restated.%%I', replaced ->> 'partition_name')) from ops.restatements as kept
        where kept.table_name = wanted.table_name
    )
inner join pg_catalog.pg_attribute
    on attrelid = relation.oid and attname in (wanted.column_name, wanted.name_before) and not attisdropped;

-- name: spread_by
-- The distribution column of a table on a Citus cluster.
select column_to_column_name(logicalrelid, partkey) from pg_dist_partition where logicalrelid = to_regclass(%s);

-- name: keys
-- Foreign keys from or to a changed column, with SQL to drop and to make each.
with changed as (
    select attrelid, attnum
    from unnest(%(relations)s::text [], %(columns)s::text [], %(befores)s::text []) as named (relation, column_name, name_before)
    inner join pg_catalog.pg_attribute on attrelid = to_regclass(relation) and attname in (column_name, name_before)
)

select distinct
    format('alter table %%s drop constraint %%I', conrelid::regclass, conname) as drop,
    array[format('alter table %%s add constraint %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(keys.oid))] as make
from pg_catalog.pg_constraint as keys
inner join changed on (attrelid = conrelid and attnum = any(conkey)) or (attrelid = confrelid and attnum = any(confkey))
where contype = 'f' and conparentid = 0;

-- name: views
-- Views of these tables, and views of those views, each after the views that it reads: one that was replaced can read a newer one. Each has
-- SQL to drop it, and to make it with its options, owner and rights. Default privileges of the current role are revoked first.
with recursive shown as (
    select to_regclass(relation)::oid as oid, 0 as depth from unnest(%(relations)s::text []) as relation
    union
    select ev_class, depth + 1
    from shown
    inner join pg_catalog.pg_depend on refclassid = 'pg_class'::regclass and refobjid = shown.oid
    inner join pg_catalog.pg_rewrite on classid = 'pg_rewrite'::regclass and pg_rewrite.oid = objid
    where ev_class <> shown.oid  -- the rule of each view depends on the view
),

views as (
    select relation.oid, relation.oid::regclass::text as name, relname, relnamespace, relowner, relacl, reloptions, depth
    from (select oid, max(depth) as depth from shown group by oid) as shown
    inner join pg_catalog.pg_class as relation on relation.oid = shown.oid and relkind = 'v'
)

select
    views.name,
    relnamespace::regnamespace::text ~ '^(latest|as_of_[0-9]{4}_[0-9]{2}_[0-9]{2})$'
    or (relnamespace::regnamespace::text = 'public' and relname = any(%(models)s)) as is_of_dbt,
    format('drop view %%s', name) as drop,
    array[format('create view %%s%%s as %%s', name, ' with (' || array_to_string(reloptions, ', ') || ')', pg_get_viewdef(oid))]
    || array(
        select distinct format('revoke all on %%s from %%s', name, case grantee when 0 then 'public' else grantee::regrole::text end)
        from pg_catalog.pg_default_acl, aclexplode(defaclacl)
        where defaclrole = to_regrole(quote_ident(current_user)) and defaclobjtype = 'r' and defaclnamespace in (0, relnamespace)
            and grantee <> relowner and grantee <> defaclrole
    )
    || array(
        select format('alter table %%s owner to %%s', name, relowner::regrole) where relowner <> to_regrole(quote_ident(current_user))
    )
    || array(
        select format(
            'grant %%s on %%s to %%s%%s', privilege, name, case grantee when 0 then 'public' else grantee::regrole::text end,
            case when is_grantable then ' with grant option' end
        )
        from (
            select privilege_type as privilege, grantee, is_grantable from aclexplode(relacl) where grantee <> relowner
            union all
            select format('%%s (%%I)', privilege_type, attname), grantee, is_grantable
            from pg_catalog.pg_attribute, aclexplode(attacl)
            where attrelid = views.oid
        ) as granted
    ) as make
from views
order by depth, oid;
