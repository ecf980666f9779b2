-- name: proof
-- The rows of a table, and their checksum.
select (select count(*) from {relation}), ops.checksum(%s::regclass, %s::text []);

-- name: types
-- The columns of a table, and their types; none where it is not there.
select attname::text, format_type(atttypid, atttypmod)
from pg_catalog.pg_attribute
where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped;

-- name: spread_by
-- The column by which a table is spread over a cluster's nodes.
select column_to_column_name(logicalrelid, partkey) from pg_dist_partition where logicalrelid = to_regclass(%s);

-- name: limits
-- Staging has checks that are of a type: each is dropped, and the next landing makes them anew.
select format('alter table %%s drop constraint %%I', conrelid::regclass, conname)
from pg_catalog.pg_constraint
inner join pg_catalog.pg_attribute on attrelid = conrelid and attnum = any(conkey)
where conrelid = to_regclass(%s) and attname = %s and contype = 'c' and connamespace = 'staging'::regnamespace;

-- name: keys
-- Foreign keys from or to such a column.
with changed as (
    select attrelid, attnum
    from unnest(%(relations)s::text [], %(columns)s::text []) as named (relation, column_name)
    inner join pg_catalog.pg_attribute on attrelid = to_regclass(relation) and attname = column_name
)

select distinct
    format('alter table %%s drop constraint %%I', conrelid::regclass, conname) as drop,
    array[format('alter table %%s add constraint %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(keys.oid))] as make
from pg_catalog.pg_constraint as keys
inner join changed on (attrelid = conrelid and attnum = any(conkey)) or (attrelid = confrelid and attnum = any(confkey))
where contype = 'f' and conparentid = 0;

-- name: views
-- Views that show such a column, and views on those, in an order in which they can be made: how each goes, and all that makes it
-- again: its text and options, owner, rights, comments, and what hangs on it. Rights that its new owner gives by default are taken first.
with recursive changed as (
    select attrelid, attnum, attname
    from unnest(%(relations)s::text [], %(columns)s::text []) as named (relation, column_name)
    inner join pg_catalog.pg_attribute on attrelid = to_regclass(relation) and attname = column_name
    union all
    select part.attrelid, part.attnum, part.attname
    from changed
    inner join pg_catalog.pg_inherits on inhparent = changed.attrelid
    inner join pg_catalog.pg_attribute as part on part.attrelid = inhrelid and part.attname = changed.attname
),

shown as (
    select ev_class as oid, 1 as depth
    from changed
    inner join pg_catalog.pg_depend on refclassid = 'pg_class'::regclass and refobjid = attrelid and refobjsubid = attnum
    inner join pg_catalog.pg_rewrite on classid = 'pg_rewrite'::regclass and pg_rewrite.oid = objid
    union
    select ev_class, depth + 1
    from shown
    inner join pg_catalog.pg_depend on refclassid = 'pg_class'::regclass and refobjid = shown.oid
    inner join pg_catalog.pg_rewrite on classid = 'pg_rewrite'::regclass and pg_rewrite.oid = objid
    where ev_class <> shown.oid
),

views as (
    select
        relation.oid,
        relation.oid::regclass::text as name,
        case when relkind = 'm' then 'materialized view' else 'view' end as kind,
        relnamespace,
        relname,
        relowner,
        relacl,
        relispopulated,
        reloptions,
        max(depth) as depth
    from shown
    inner join pg_catalog.pg_class as relation on relation.oid = shown.oid and relkind in ('v', 'm')
    group by relation.oid
)

select
    views.name,
    format('drop %%s %%s', kind, name) as drop,
    relnamespace::regnamespace::text = 'latest'
    or (relnamespace::regnamespace::text = 'public' and relname = any(%(models)s)) as is_of_dbt,
    array[
        format(
            'create %%s %%s%%s as %%s%%s', kind, name, ' with (' || array_to_string(reloptions, ', ') || ')',
            rtrim(pg_get_viewdef(oid), ';'), case when not relispopulated then ' with no data' end
        )
    ]
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
            'grant %%s on %%s to %%s%%s', privilege_type, name, case grantee when 0 then 'public' else grantee::regrole::text end,
            case when is_grantable then ' with grant option' end
        )
        from aclexplode(relacl)
        where grantee <> relowner
    )
    || array(
        select format(
            'grant %%s (%%I) on %%s to %%s%%s', privilege_type, attname, name,
            case grantee when 0 then 'public' else grantee::regrole::text end,
            case when is_grantable then ' with grant option' end
        )
        from pg_catalog.pg_attribute, aclexplode(attacl)
        where attrelid = views.oid
    )
    || array(
        select case objsubid
            when 0 then format('comment on %%s %%s is %%L', kind, name, description)
            else format('comment on column %%s.%%I is %%L', name, attname, description)
        end
        from pg_catalog.pg_description
        left join pg_catalog.pg_attribute on attrelid = objoid and attnum = objsubid
        where objoid = views.oid and classoid = 'pg_class'::regclass
    )
    || array(select pg_get_indexdef(indexrelid) from pg_catalog.pg_index where indrelid = views.oid)
    || array(select pg_get_triggerdef(pg_trigger.oid) from pg_catalog.pg_trigger where tgrelid = views.oid and not tgisinternal)
    || array(select pg_get_ruledef(pg_rewrite.oid) from pg_catalog.pg_rewrite where ev_class = views.oid and rulename <> '_RETURN')
    as make
from views
order by depth, oid;

-- name: update_history
update ops.history
set checksum = %(checksum)s, checksum_columns = %(covered)s
where table_name = %(table)s and as_of = %(as_of)s and load_id = %(load)s;

-- name: update_restated
update ops.restatements
set replaced = replaced || jsonb_build_object('checksum', %(checksum)s::numeric, 'checksum_columns', to_jsonb(%(covered)s::text []))
where table_name = %(table)s and as_of = %(as_of)s and replaced_load_id = %(load)s;

-- name: add_link
select ops.add_link(
    jsonb_build_object('event', 'migrated', 'at', clock_timestamp(), 'columns', %s::text [], 'by', %s::text, 'tables', %s::jsonb)
);
