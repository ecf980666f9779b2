{#- Finds rows that would break foreign keys once a month is published. -#}
{% macro ops_references() %}
-- The foreign keys that production declares; `declared` is as in ops.follow_declaration.
create or replace function ops.declared_references(declared jsonb) returns table (
    child regclass, columns text [], parent regclass, to_columns text [], is_missing boolean
) language sql stable as $$
    select one.child, key.columns, key.parent, key.to_columns, key.is_missing
    from (
        select to_regclass(known.name) as child, known.constraints
        from jsonb_to_recordset(declared) as known (name text, kind text, constraints jsonb)
        where known.kind = 'production'
    ) as one
    cross join lateral ops.declared_keys(one.child, one.constraints) as key
    where key.type = 'foreign_key'
$$;

-- The foreign keys of the database that production does not declare. `is_left_over`: streamflow made it, for a reference that is no longer
-- declared: its keys refer to production and delete rows with the row that they name.
create or replace function ops.undeclared_references(declared jsonb) returns table (
    child regclass, columns text [], parent regclass, to_columns text [], name text, is_left_over boolean
) language sql stable as $$
    select
        key.conrelid, ops.columns(key.conrelid, key.conkey), key.confrelid, ops.columns(key.confrelid, key.confkey),
        key.conname::text,
        key.confdeltype = 'c' and exists (
            select from ops.history as history where to_regclass(format('public.%I', history.table_name)) = key.confrelid
        )
    from pg_constraint as key
    where key.contype = 'f' and key.conparentid = 0 and not exists (
        select from ops.declared_references(declared) as one
        where (one.child, one.columns) = (key.conrelid, ops.columns(key.conrelid, key.conkey))
            and (one.parent, one.to_columns) = (key.confrelid, ops.columns(key.confrelid, key.confkey))
    )
$$;

-- Locks tables against readers too, until the transaction ends. Each attempt is shorter than deadlock_timeout, so that no reader waits for
-- long, and no cycle of waiting sessions lasts.
create or replace function ops.lock_out_readers(relations text, failure text) returns void language plpgsql as $$
begin
    perform set_config('citus.propagate_set_commands', 'local', true);
    for attempt in 1 .. 60 loop
        begin
            set local lock_timeout = '800ms';
            execute format('lock table %s in access exclusive mode', relations);
            set local lock_timeout = 0;
            return;
        exception when lock_not_available or deadlock_detected then
            perform pg_sleep(0.2);
        end;
    end loop;
    raise exception '%', failure using hint = 'Try again when that has ended.';
end
$$;

-- Drops the keys of declared production tables that are left over.
create or replace function ops.drop_left_over_keys(declared jsonb) returns void language plpgsql as $$
declare
    key record;
begin
    for key in
        select undeclared.*
        from ops.undeclared_references(declared) as undeclared
        inner join jsonb_to_recordset(declared) as one (name text, kind text) on undeclared.child = to_regclass(one.name)
        where undeclared.is_left_over and one.kind = 'production'
    loop
        perform ops.lock_out_readers(format('%s, %s', key.child, key.parent), format(
            'the foreign key %s is no longer declared, and cannot be dropped while others read %s or %s', key.name, key.child, key.parent
        ));
        execute format('alter table %s drop constraint %I', key.child, key.name);
    end loop;
end
$$;

-- The rows that would break a foreign key of production, per key: the delivered rows, unless the key is one of `audited`, [[child, columns,
-- parent, to_columns]]; and those of production if the key is new, with the dates of their deliveries. `key` is the name of a key that is
-- not declared, as somebody else made it. Declared columns that a table does not have yet are null in all its rows.
create or replace function ops.unmatched(declared jsonb, audited jsonb) returns table (
    child text, key text, parent text, columns text, is_published boolean, row_count bigint, dates text
) language plpgsql stable as $$
declare
    relation regclass;
    but_known text;
begin
    for child, key, parent, columns, is_published, relation, but_known in
        with reference as (
            select one.child, one.columns, one.parent, one.to_columns, null as name, false as is_new
            from ops.declared_references(declared) as one
            union all
            select one.child, one.columns, one.parent, one.to_columns, null, true
            from ops.declared_references(declared) as one
            where one.is_missing
            union all
            select undeclared.child, undeclared.columns, undeclared.parent, undeclared.to_columns, undeclared.name, false
            from ops.undeclared_references(declared) as undeclared
            where not undeclared.is_left_over
        )
        select
            own.relname, quote_ident(reference.name), reference.parent::text, ops.identifiers(reference.columns), reference.is_new,
            source.relation,
            (
                select string_agg(format(' except select %s from %s', ops.identifiers(reference.to_columns), known), '')
                from unnest(array[
                    reference.parent, to_regclass('staging.' || quote_ident(delivered.table_name)),
                    case when reference.is_new then to_regclass(format('public.%I', other.relname || '_snapshots')) end
                ]) as known
                where known is not null
            )
        from reference
        inner join pg_class as own on own.oid = reference.child
        inner join pg_class as other on other.oid = reference.parent
        left join ops.staged as landed on to_regclass(format('public.%I', landed.table_name)) = reference.child
        left join ops.staged as delivered on to_regclass(format('public.%I', delivered.table_name)) = reference.parent
        cross join lateral (
            select case when reference.is_new then reference.child else to_regclass('staging.' || quote_ident(landed.table_name)) end
        ) as source (relation)
        where reference.columns <@ (select array_agg(attname::text) from pg_attribute where attrelid = source.relation)
            and ops.has_rows(source.relation)
            and (reference.is_new or jsonb_build_array(own.relname, reference.columns, other.relname, reference.to_columns) not in (
                select jsonb_array_elements(audited)
            ))
        order by reference.name nulls first, reference.is_new, own.relname, reference.columns
    loop
        execute format(
            'select count(*), string_agg(distinct as_of, $1) from (select %1$I::text as as_of from %2$s where (%3$s) in ('
            'select %3$s from %2$s where (%3$s) is not null %4$s)) as named',
            case when is_published then 'observed_as_of' else 'as_of' end, relation, columns, but_known
        ) into row_count, dates using ', ';
        return next;
    end loop;
end
$$;

-- A query for the rows that production of a table takes in from all dates but `of_date`.
create or replace function ops.delivered_otherwise(of_table text, columns text, of_date date) returns text language sql stable as $$
    select format(
        'select %s from public.%I where as_of <> %L'
        ' and (observed_as_of = as_of or observed_as_of in (select as_of from ops.archived where table_name = %L))',
        columns, of_table || '_snapshots', of_date, of_table
    )
$$;

-- Per foreign key, also one that is declared and missing, the number of rows that would break it if the restatement in staging were
-- published: they name a customer whom only the restated month delivered, and whom its new files lack. Reads staging, the newest deliveries
-- of other dates, and tables that no file delivers; if no customer is gone, reads none of these.
create or replace function ops.left_behind(declared jsonb) returns table (
    child text, is_staged boolean, parent text, key text, columns text, row_count bigint, dates text
) language plpgsql stable as $$
declare
    restated date := (
        select staged.as_of
        from ops.staged as staged
        inner join ops.loads as loads on loads.load_id = staged.load_id and loads.restates
        where (staged.table_name, staged.as_of) in (select known.table_name, known.as_of from ops.history as known)
        limit 1
    );
    theirs text;
    its_key text;
    its_columns text;
begin
    for child, is_staged, parent, key, columns, theirs, its_key, its_columns in
        with reference as (
            select one.child, one.columns, one.parent, one.to_columns, null as name
            from ops.declared_references(declared) as one
            where one.is_missing
            union all
            select conrelid, ops.columns(conrelid, conkey), confrelid, ops.columns(confrelid, confkey), conname::text
            from pg_constraint
            where contype = 'f' and conparentid = 0
        )
        select coalesce(own.table_name, reference.child::text), own.table_name is not null, staged.table_name,
            quote_ident(reference.name),
            ops.identifiers(reference.columns),
            ops.identifiers(reference.to_columns),
            ops.identifiers(ops.primary_key(reference.child)),
            ops.identifiers(array(select unnest(reference.columns) union select unnest(ops.primary_key(reference.child))))
        from reference
        inner join ops.staged as staged on reference.parent = to_regclass(format('public.%I', staged.table_name))
        left join ops.staged as own on reference.child = to_regclass(format('public.%I', own.table_name))
        where restated is not null
    loop
        execute format(
            'with gone as (select %1$s from public.%2$I where observed_as_of = %3$L except select %1$s from staging.%2$I), named as (%4$s)'
            ' select count(*), string_agg(distinct observed_as_of::text, $1) from named'
            ' where exists (select from gone) and (%5$s) in (select %1$s from gone except %6$s)',
            theirs, parent, restated,
            case
                when is_staged then format(
                    'select distinct on (%1$s) * from ('
                    'select %2$s, %3$L::date as observed_as_of from staging.%4$I union all %5$s'
                    ') as delivered order by %1$s, observed_as_of desc',
                    its_key, its_columns, restated, child, ops.delivered_otherwise(child, its_columns || ', observed_as_of', restated)
                )
                else format('select %s, null::date as observed_as_of from %s', columns, child)
            end,
            columns, ops.delivered_otherwise(parent, theirs, restated)
        ) into row_count, dates using ', ';
        return next;
    end loop;
end
$$;

-- Has the tables that are two or more references below a production table rebuild from history. When a restated table loses rows, those of
-- the tables below it go too, by `on delete cascade`. A table directly below gets them back from its own restated file, or has none, as
-- ops.left_behind found; one further below may name rows that came back.
create or replace function ops.rebuild_below(target regclass) returns void language sql as $$
    with recursive below as (
        select conrelid as child, 1 as distance
        from pg_constraint
        where confrelid = target and contype = 'f' and conparentid = 0
        union
        select pg_constraint.conrelid, 2
        from pg_constraint
        inner join below on pg_constraint.confrelid = below.child
        where pg_constraint.contype = 'f' and pg_constraint.conparentid = 0
    )

    update ops.history set merged_at = null
    where to_regclass(format('public.%I', table_name)) in (select child from below where distance = 2 and child <> target)
$$;
{% endmacro %}
