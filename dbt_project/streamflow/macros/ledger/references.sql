{#- Finds rows that would break foreign keys once a month is published. Plain Jinja, as the loader renders this file too. -#}
{% macro ops_references() %}
-- Whether a foreign key is one of `declared`: [[child, columns, parent]].
create or replace function ops.is_declared(key pg_constraint, declared jsonb) returns boolean language sql stable as $$
    select exists (
        select from jsonb_array_elements(declared) as one
        where one = jsonb_build_array(child.relname, to_jsonb(ops.columns(key.conrelid, key.conkey)), parent.relname)
    )
    from pg_class as child, pg_class as parent
    where child.oid = key.conrelid and parent.oid = key.confrelid
$$;

-- Whether streamflow made a foreign key for a reference that is no longer declared: its keys refer to production and delete rows with the
-- row that they name.
create or replace function ops.is_left_over(key pg_constraint, declared jsonb) returns boolean language sql stable as $$
    select (key.contype, key.confdeltype, key.conparentid) = ('f', 'c', 0::oid)
        and key.confrelid in (select to_regclass(format('public.%I', history.table_name)) from ops.history as history)
        and not ops.is_declared(key, declared)
$$;

-- Drops these keys of the given production tables. Each attempt is shorter than deadlock_timeout, so that no reader waits for long.
create or replace function ops.drop_left_over_keys(tables text [], declared jsonb) returns void language plpgsql as $$
declare
    key pg_constraint;
begin
    for key in
        select pg_constraint.*
        from pg_constraint
        where conrelid in (select to_regclass(format('public.%I', name)) from unnest(tables) as name)
            and ops.is_left_over(pg_constraint, declared)
    loop
        for attempt in 1 .. 60 loop
            begin
                set local lock_timeout = '800ms';
                execute format('alter table %s drop constraint %I', key.conrelid::regclass, key.conname);
                exit;
            exception when lock_not_available or deadlock_detected then
                if attempt = 60 then
                    raise exception 'the foreign key % is no longer declared, and cannot be dropped while others read % or %',
                        key.conname, key.conrelid::regclass, key.confrelid::regclass
                        using hint = 'Try again when that has ended.';
                end if;
                perform pg_sleep(0.2);
            end;
        end loop;
        set local lock_timeout = 0;
    end loop;
end
$$;

-- The delivered rows that break a foreign key of production which is not declared, as somebody else made it. `declared` is as above.
create or replace function ops.unmatched(declared jsonb) returns table (
    child text, key text, parent text, columns text, row_count bigint
) language plpgsql stable as $$
declare
    theirs text;
    delivered text;
begin
    for child, key, parent, columns, theirs, delivered in
        select own.table_name, conname, confrelid::regclass::text, ops.identifiers(ops.columns(conrelid, conkey)),
            ops.identifiers(ops.columns(confrelid, confkey)), staged.table_name
        from pg_constraint
        inner join ops.staged as own on conrelid = to_regclass(format('public.%I', own.table_name))
        left join ops.staged as staged on confrelid = to_regclass(format('public.%I', staged.table_name))
        where contype = 'f' and conparentid = 0
            and not ops.is_declared(pg_constraint, declared)
            and not ops.is_left_over(pg_constraint, declared)
            and ops.columns(conrelid, conkey) <@ (
                select array_agg(attname::text) from pg_attribute where attrelid = to_regclass(format('staging.%I', own.table_name))
            )
    loop
        execute format('select count(*) from (select %1$s from staging.%2$I where (%1$s) is not null except select %3$s from %4$s',
            columns, child, theirs, parent)
            || case when delivered is null then '' else format(' except select %s from staging.%I', theirs, delivered) end
            || ') as unmatched' into row_count;
        return next;
    end loop;
end
$$;

-- A query for the rows that production of a table takes in from all dates but `of_date`.
create or replace function ops.delivered_otherwise(of_table text, columns text, of_date date) returns text language sql immutable as $$
    select format(
        'select %s from public.%I where as_of <> %L'
        ' and (observed_as_of = as_of or observed_as_of in (select as_of from ops.archived where table_name = %L))',
        columns, of_table || '_snapshots', of_date, of_table
    )
$$;

-- Per foreign key, the number of rows that would break it if the restatement in staging were published: they name a customer whom only
-- the restated month delivered, and whom its new files lack. Reads staging, the newest deliveries of other dates, and tables that no file
-- delivers; if no customer is gone, reads none of these.
create or replace function ops.left_behind() returns table (
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
        select coalesce(own.table_name, conrelid::regclass::text), own.table_name is not null, staged.table_name, conname,
            ops.identifiers(ops.columns(conrelid, conkey)),
            ops.identifiers(ops.columns(confrelid, confkey)),
            ops.identifiers(ops.primary_key(conrelid)),
            ops.identifiers(array(select unnest(ops.columns(conrelid, conkey)) union select unnest(ops.primary_key(conrelid))))
        from pg_constraint
        inner join ops.staged as staged on confrelid = to_regclass(format('public.%I', staged.table_name))
        left join ops.staged as own on conrelid = to_regclass(format('public.%I', own.table_name))
        where contype = 'f' and conparentid = 0 and restated is not null
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
{% endmacro %}
