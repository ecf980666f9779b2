{#- Creates tables as declared. -#}
{% macro ops_declared() %}
create or replace function ops.identifiers(names text []) returns text language sql immutable as $$
    select string_agg(quote_ident(name), ', ' order by place) from unnest(names) with ordinality as listed (name, place)
$$;

-- The names of a table's columns with these numbers.
create or replace function ops.columns(relation regclass, numbers smallint []) returns text [] language sql stable as $$
    select array_agg(attname::text order by place)
    from unnest(numbers) with ordinality as part (number, place)
    inner join pg_attribute on attrelid = relation and attnum = number
$$;

create or replace function ops.columns_of(relation regclass) returns text [] language sql stable as $$
    select array_agg(attname::text) from pg_attribute where attrelid = relation and attnum > 0 and not attisdropped
$$;

create or replace function ops.primary_key(relation regclass) returns text [] language sql stable as $$
    select ops.columns(conrelid, conkey) from pg_constraint where conrelid = relation and contype = 'p'
$$;

-- The keys that a table declares; `to` ends in the name of the parent. `is_missing`: the table lacks the key, and can have it. A cluster
-- enforces a foreign key only within a node: the key has to begin with the column by which the tables are distributed, which is the first
-- one of the primary key.
create or replace function ops.declared_keys(target regclass, constraints jsonb) returns table (
    type text, columns text [], parent regclass, to_columns text [], is_missing boolean
) language sql stable as $$
    select
        key.type, key.columns, refers.parent, key.to_columns,
        not exists (
            select from pg_constraint
            where conrelid = target and convalidated
                and case key.type
                    when 'primary_key' then contype = 'p'
                    else contype = 'f' and ops.columns(conrelid, conkey) = key.columns and confrelid = refers.parent
                        and ops.columns(confrelid, confkey) = key.to_columns
                end
        )
        and (
            key.type = 'primary_key'
            or not ops.is_cluster()
            or key.columns[1] = jsonb_path_query_first(constraints, '$[*] ? (@.type == "primary_key").columns[0]') #>> '{}'
        )
    from jsonb_to_recordset(constraints) as key (type text, columns text [], "to" text, to_columns text [])
    cross join lateral (select ('public.' || quote_ident(substring(key."to" from '(\w+)\W*$')))::regclass) as refers (parent)
    where key.type in ('primary_key', 'foreign_key')
    order by key.type desc
$$;

create or replace function ops.has_rows(relation regclass) returns boolean language plpgsql stable strict as $$
declare
    result boolean;
begin
    execute format('select exists (select 1 from %s limit 1)', relation) into result;
    return result;
end
$$;

-- Whether a table can have a foreign key: not while it has rows and the parent waits for its first month, with which the key comes.
create or replace function ops.can_refer(target regclass, parent regclass) returns boolean language sql stable as $$
    select not ops.has_rows(target) or ops.has_rows(parent)
$$;

-- Creates an empty table, with columns as [{name, type, required}].
-- staging: one row per record of the file. Only types are checked, and that dates are finite and numbers too small for their mean, which
-- has double precision, to overflow (loader/refusals/diagnosis.sql finds the others). Not vacuumed, as the next month recreates the table.
-- history: partitioned by as_of, and immutable. production: ops.finish_merge adds the keys after the first rows; half of each page is left
-- free, as each month writes a new version of every row.
create or replace function ops.create_table(name text, kind text, columns jsonb, key text []) returns void language plpgsql as $$
declare
    listed text;
begin
    select string_agg(
        format('%I %s', declared.name, declared.type) || case when declared.required then ' not null' else '' end || case
            when kind = 'staging' and declared.type = 'numeric' then format(
                ' constraint %I check (%I > -1e100 and %2$I < 1e100 and scale(%2$I) <= 300)', declared.name || '_is_finite', declared.name
            )
            when kind = 'staging' and declared.type = 'date' then format(
                ' constraint %I check (isfinite(%I))', declared.name || '_is_finite', declared.name
            )
            else ''
        end, ', '
    ) into listed
    from jsonb_to_recordset(columns) as declared (name text, type text, required boolean);
    execute case kind
        when 'staging' then format('create unlogged table %s (%s, as_of date not null) with (autovacuum_enabled = off)', name, listed)
        when 'history' then format('create table %s (%s, primary key (%s)) partition by list (as_of)', name, listed, ops.identifiers(key))
        else format('create table %s (%s) with (fillfactor = 48)', name, listed)
    end;
    -- ctid shows a row's place in its file, except in a distributed table, or if rows of forgotten customers were taken out
    if kind = 'staging' and (ops.is_cluster() or exists (select from ops.forgotten)) then
        execute format('alter table %s add column position_in_file bigint generated by default as identity (cache 1000)', name);
    end if;
    perform ops.spread(name, key[1]);
    if kind = 'history' then
        perform ops.make_immutable(name);
    elsif kind = 'production' then  -- a table that is part of a publication needs an identity until it has its key
        execute format('alter table %s replica identity full', name);
    end if;
end
$$;

-- The columns of a table that are not as declared; a type is null if the column is not declared, or if the table lacks it.
create or replace function ops.unlike_declared(relation regclass, columns jsonb) returns table (
    name text, declared_type text, actual_type text
) language sql stable as $$
    select name, declared.type, actual.type
    from jsonb_to_recordset(columns) as declared (name text, type text)
    full join (
        select attname::text as name, format_type(atttypid, atttypmod) as type
        from pg_attribute
        where attrelid = relation and attnum > 0 and not attisdropped
    ) as actual using (name)
    where actual.type in (declared.type, format_type(to_regtype(declared.type), null)) is not true
    order by actual.type is null and name = 'observed_as_of' desc, actual.type is null
$$;

-- Whether staging holds a month that is to be published.
create or replace function ops.is_to_publish() returns boolean language sql stable as $$
    select exists (
        select from ops.staged as staged
        inner join ops.loads as loads on loads.load_id = staged.load_id
        where loads.command <> 'check' and loads.state <> 'refused'
            and loads.load_id not in (select published.load_id from ops.published as published)
    )
$$;

-- Raises if a month that is to be published was landed when other tables or columns were declared. `declared` is as in
-- ops.follow_declaration.
create or replace function ops.require_landed_as_declared(declared jsonb) returns void language plpgsql stable as $$
declare
    changed text := (
        select coalesce(one.relation::text, 'staging.' || staged.table_name)
        from (
            select to_regclass(known.name) as relation, known.*
            from jsonb_to_recordset(declared) as known (name text, kind text, columns jsonb)
            where known.kind = 'staging'
        ) as one
        full join ops.staged as staged on to_regclass(format('staging.%I', staged.table_name)) = one.relation
        -- a landing also makes the tables that a month may lack, which it does not enter, and gives as_of a default
        where one.name is null or exists (
            select from ops.unlike_declared(one.relation, one.columns) as different
            where different.name not in ('as_of', 'position_in_file')
        ) or (staged.load_id is null and not exists (
            select from pg_attribute where attrelid = one.relation and attname = 'as_of' and atthasdef
        ))
        limit 1
    );
begin
    if changed is not null and ops.is_to_publish() then
        raise exception 'the month in staging was landed before the declaration of % was changed', changed
            using hint = 'Land the month again.';
    end if;
end
$$;

-- Creates missing tables and, if `adds_columns`, columns that were declared later; dbt would add them only after history has read its own
-- table. Staging gets such a column, empty, unless its month is to be published, it may be a rename, or the table is somebody else's.
-- Raises before any row is written if a table is not as declared. Returns the tables it made. `declared` is [{name, kind, columns, key,
-- constraints}].
create or replace function ops.follow_declaration(declared jsonb, adds_columns boolean) returns setof text language plpgsql as $$
declare
    wanted record;
    difference record;
    left_over text := (
        select string_agg(format('%s of %s', table_name, as_of), ', ' order by table_name, as_of)
            || case when bool_or(as_of in (select as_of from ops.published)) then '' else ' (or `streamflow abandon` the month)' end
        from ops.history
        where merged_at is null and to_regclass(format('public.%I', table_name)) not in (
            select to_regclass(one.name) from jsonb_to_recordset(declared) as one (name text) where to_regclass(one.name) is not null
        )
    );
begin
    if left_over is not null then
        raise exception 'a table was removed from the declaration before production took in its rows. Declare it again until'
            ' `streamflow dbt run --select complete_months+` has published %. Nothing was changed.', left_over;
    end if;
    for wanted in select * from jsonb_to_recordset(declared) as one (name text, kind text, columns jsonb, key text []) loop
        if to_regclass(wanted.name) is null then
            perform ops.create_table(wanted.name, wanted.kind, wanted.columns, wanted.key);
            if wanted.kind = 'production' then  -- if it was dropped, it takes in all of history again
                update ops.history set merged_at = null where to_regclass(format('public.%I', table_name)) = wanted.name::regclass;
            end if;
            return next wanted.name;
            continue;
        end if;
        for difference in
            select * from ops.unlike_declared(wanted.name, wanted.columns)
            where wanted.kind <> 'staging' or (  -- each landing recreates staging
                actual_type is null and not ops.is_to_publish() and exists (
                    select from pg_class where oid = wanted.name::regclass and 'autovacuum_enabled=off' = any(reloptions)
                ) and not exists (  -- `streamflow migrate` renames this one
                    select from ops.unlike_declared(wanted.name, wanted.columns) as surplus
                    where surplus.declared_type is null and surplus.name not in ('as_of', 'position_in_file')
                )
            )
        loop
            if difference.actual_type is null and difference.name = 'observed_as_of' then
                raise exception 'public.% was not made by streamflow: name another database in POSTGRES_DB, or rename that table in psql.'
                    ' Nothing was changed.', wanted.name::regclass;
            elsif difference.actual_type is null then
                if adds_columns or wanted.kind = 'staging' then
                    execute format('alter table %s add column %I %s', wanted.name, difference.name, difference.declared_type);
                    if wanted.kind = 'production' then  -- if history has had it before, this takes in all of history again
                        update ops.history set merged_at = null
                        where difference.name = any(checksum_columns) and to_regclass(format('public.%I', table_name)) = wanted.name::regclass;
                    end if;
                end if;
            elsif difference.declared_type is null and exists (
                select from ops.history
                where difference.name = any(checksum_columns) and wanted.name::regclass in (
                    to_regclass(format('public.%I', table_name)), to_regclass(format('public.%I', table_name || '_snapshots'))
                )
            ) then
                raise exception '% has a column % that is no longer declared, but history keeps its values. If it was renamed, add'
                    ' the old name to the `aliases` of the new column, and run `streamflow migrate`; if not, declare it again, with'
                    ' `retired: true` in its config.meta, or let the model that computed it select it as null. Nothing was changed.',
                    wanted.name::regclass, difference.name;
            elsif difference.declared_type is null then
                raise exception '% has a column % that is not declared, and no month has brought it: declare it, or'
                    ' `alter table % drop column %` in psql. Nothing was changed.',
                    wanted.name::regclass, difference.name, wanted.name::regclass, quote_ident(difference.name);
            else
                raise exception '%.% is declared as %, but is % in the table. `streamflow migrate` changes a column of the files, or says'
                    ' why it cannot; if you added the column to the model, declare it there as it was. Nothing was changed.',
                    wanted.name::regclass, difference.name, difference.declared_type, difference.actual_type;
            end if;
        end loop;
        if wanted.key <> ops.primary_key(wanted.name) then
            raise exception '% has the key % in the database, but is declared with %: history keeps its key. Declare its primary_key as'
                ' it was, or declare a new table. Nothing was changed.',
                wanted.name::regclass, array_to_string(ops.primary_key(wanted.name), ', '), array_to_string(wanted.key, ', ');
        end if;
    end loop;
end
$$;
{% endmacro %}
