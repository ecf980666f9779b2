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
        exception when lock_not_available or deadlock_detected or internal_error then  -- the last for a lock on a worker, or a lost worker
            perform ops.require_settled_cluster();
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

-- How many delivered rows match no row of their parent: one row per foreign key of production, except those in `audited`, which is
-- [[child, columns, parent, to_columns]]. `key` is the name of a key that somebody else made; null for a declared key.
create or replace function ops.unmatched(declared jsonb, audited jsonb) returns table (
    child text, key text, parent text, columns text, row_count bigint
) language plpgsql stable as $$
declare
    delivered text;
    but_known text;
begin
    for child, key, parent, columns, delivered, but_known in
        with reference as (
            select one.child, one.columns, one.parent, one.to_columns, null as name
            from ops.declared_references(declared) as one
            union all
            select undeclared.child, undeclared.columns, undeclared.parent, undeclared.to_columns, undeclared.name
            from ops.undeclared_references(declared) as undeclared
            where not undeclared.is_left_over
        )
        select
            landed.table_name, quote_ident(reference.name), reference.parent::text, ops.identifiers(reference.columns),
            format('staging.%I', landed.table_name),
            (
                select string_agg(format(' except select %s from %s', ops.identifiers(reference.to_columns), known), '')
                from unnest(array[reference.parent, to_regclass('staging.' || quote_ident(staged.table_name))]) as known
                where known is not null
            )
        from reference
        inner join pg_class as other on other.oid = reference.parent
        inner join ops.staged as landed on to_regclass(format('public.%I', landed.table_name)) = reference.child
        left join ops.staged as staged on to_regclass(format('public.%I', staged.table_name)) = reference.parent
        where reference.columns <@ ops.columns_of(to_regclass(format('staging.%I', landed.table_name)))
            and jsonb_build_array(landed.table_name, reference.columns, other.relname, reference.to_columns) not in (
                select jsonb_array_elements(audited)
            )
        order by reference.name nulls first, landed.table_name, reference.columns
    loop
        execute format(
            'select count(*) from %1$s where (%2$s) in (select %2$s from %1$s where (%2$s) is not null %3$s)', delivered, columns, but_known
        ) into row_count;
        return next;
    end loop;
end
$$;

-- A query for the rows that a table of production will have once the month in staging is published, with the dates of their deliveries.
-- With `and_present`, it also gives the rows that the table has now. With `any_delivery`, it may give rows that newer ones replace. Null if
-- no row has a value in these columns. Rows of archived dates are read where production will read them: from the months on which the staged
-- month is built and, unless that will be the newest, also from those on which a month after all others would be built.
create or replace function ops.rows_to_come(production regclass, columns text [], and_present boolean, any_delivery boolean) returns text
language plpgsql stable as $$
declare
    of_table text := (select relname from pg_class where oid = production and relnamespace = 'public'::regnamespace);
    history regclass := to_regclass('public.' || quote_ident(of_table || '_snapshots'));
    staged_on date := (select as_of from ops.staged where table_name = of_table);
    key text [] := array_remove(ops.primary_key(history), 'as_of');
    needed text := ops.identifiers(array(select unnest(key) union select unnest(columns)));
    delivered text [] := case
        when staged_on is not null then array[format('select %s, %L::date as observed_as_of from staging.%I', needed, staged_on, of_table)]
    end;
    carrying text;
    archived text;
begin
    if not exists (select from ops.history where table_name = of_table) then
        return coalesce(delivered[1], format('select %s, null::date as observed_as_of from %s', needed, production));
    end if;
    if columns <@ ops.columns_of(history) then  -- no earlier row has a value in a new column
        carrying := concat_ws(
            ', ', (ops.months_before(of_table, coalesce(staged_on, 'infinity'))).dates,
            case
                when exists (select from ops.standing_history where table_name = of_table and as_of > staged_on)
                    then (ops.months_before(of_table, 'infinity')).dates
            end
        );
        archived := (select string_agg(format('date %L', as_of), ', ') from ops.archived where table_name = of_table);
        delivered := delivered || format(
            'select %s, observed_as_of from %s where as_of is distinct from %L::date'
            ' and (observed_as_of = as_of or (as_of in (%s) and observed_as_of in (%s)))',
            needed, history, staged_on, carrying, coalesce(archived, 'null::date')
        );
    end if;
    if any_delivery or delivered is null then
        return array_to_string(delivered, ' union all ');
    end if;
    return format(
        '(select distinct on (%1$s) * from (%2$s) as delivered order by %1$s, observed_as_of desc)',
        ops.identifiers(key), array_to_string(delivered, ' union all ')
    ) || case
        when and_present and columns <@ ops.columns_of(production) then format(' union select %s, observed_as_of from %s', needed, production)
        else ''
    end;
end
$$;

-- The tables of production that had rows of a restated date, in production or in history, that the new files lack. Production and history
-- differ after a restatement that was cut off: foreign keys may have deleted rows of production that history still has.
create or replace function ops.losing_rows(restated date) returns regclass [] language plpgsql stable as $$
declare
    staged record;
    loses_rows boolean;
    losing regclass [] := '{}';
begin
    for staged in
        select
            table_name, to_regclass(format('public.%I', table_name)) as production,
            to_regclass(format('public.%I', table_name || '_snapshots')) as history
        from ops.staged
        where as_of = restated and to_regclass(format('public.%I', table_name)) is not null
    loop
        execute format(
            'select exists ((select %1$s from %2$s where observed_as_of = %3$L'
            ' union all select %1$s from %4$s where (as_of, observed_as_of) = (%3$L, %3$L)) except select %1$s from staging.%5$I)',
            ops.identifiers(array_remove(ops.primary_key(staged.history), 'as_of')), staged.production, restated, staged.history,
            staged.table_name
        ) into loses_rows;
        if loses_rows then
            losing := losing || staged.production;
        end if;
    end loop;
    return losing;
end
$$;

-- How many rows would break a foreign key of production once the month in staging is published: one row per key, with the dates on which
-- these rows were delivered. Looks only at keys that are new and, if the staged month is restated, at keys of tables that lose rows.
-- `key` is the name of an existing key; null for a new one. `about` is the parent if that is a declared table, else the child. Rows that
-- production has now count too if the key is new, or if somebody else made it and it does not delete rows. Rows that an unvalidated key
-- lets pass do not count.
create or replace function ops.left_without(declared jsonb) returns table (
    about text, child text, key text, is_declared boolean, parent text, columns text, row_count bigint, dates text
) language plpgsql stable as $$
declare
    restated date := (
        select staged.as_of
        from ops.staged as staged
        inner join ops.loads as loads on loads.load_id = staged.load_id and loads.restates
        where (staged.table_name, staged.as_of) in (select known.table_name, known.as_of from ops.history as known)
        limit 1
    );
    losing regclass [] := ops.losing_rows(restated);
    to_columns text;
    reference record;
    to_come text;
begin
    for reference in
        select one.*, null as name, true as is_declared, true as and_present, true as is_valid
        from ops.declared_references(declared) as one
        where one.is_missing and one.child is not null and (ops.has_rows(one.child) or restated is not null)
        union all
        select
            one.conrelid, one.columns, one.confrelid, one.to_columns, false, one.conname, one.conname not in (
                select undeclared.name from ops.undeclared_references(declared) as undeclared where undeclared.child = one.conrelid
            ), one.confdeltype in ('a', 'r'), one.convalidated
        from (
            select *, ops.columns(conrelid, conkey) as columns, ops.columns(confrelid, confkey) as to_columns
            from pg_constraint
            where contype = 'f' and conparentid = 0 and array[conrelid, confrelid] && losing::oid []
        ) as one
    loop
        to_come := ops.rows_to_come(reference.child, reference.columns, reference.and_present, false);
        continue when to_come is null;
        about := (
            select own.relname
            from jsonb_to_recordset(declared) as known (name text, kind text)
            inner join pg_class as own on own.oid = to_regclass(known.name)
            where known.kind = 'production' and own.oid in (reference.parent, reference.child)
            order by own.oid = reference.child
            limit 1
        );
        child := reference.child;
        key := quote_ident(reference.name);
        is_declared := reference.is_declared;
        parent := reference.parent;
        columns := ops.identifiers(reference.columns);
        to_columns := ops.identifiers(reference.to_columns);
        execute format(
            'with coming as (%1$s) select count(*), string_agg(distinct observed_as_of::text, $1) from coming'
            ' where (%2$s) in (select %2$s from coming where (%2$s) is not null except select %3$s from (%4$s) as known %5$s)',
            to_come, columns, to_columns, ops.rows_to_come(
                reference.parent, reference.to_columns, false, reference.to_columns <@ ops.primary_key(reference.parent)
            ),
            case when not reference.is_valid then format(
                'except (select %s from %s except select %s from %s)', columns, reference.child, to_columns, reference.parent
            ) end
        ) into row_count, dates using ', ';
        return next;
    end loop;
end
$$;

-- Marks the declared tables that are two or more references below a production table for a rebuild from history. When a restated table
-- loses rows, `on delete cascade` also deletes rows of the tables below it. A table directly below gets them back from its own restated
-- file, or has none, as ops.left_without found. A table further below may have lost rows whose parent came back.
create or replace function ops.rebuild_below(target regclass, declared text []) returns void language sql as $$
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
    where table_name = any(declared)
        and to_regclass(format('public.%I', table_name)) in (select child from below where distance = 2 and child <> target)
$$;
{% endmacro %}
