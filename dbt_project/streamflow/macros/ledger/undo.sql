{#- Undoes loads that were not finished. -#}
{% macro ops_undo() %}
-- Undoes loads that were cut off before the history of all their tables stood, the newest first, but not the load in staging: drops their
-- partitions, and puts back those that they replaced. With `of_date`, undoes all loads of that date since its last publication.
create or replace function ops.undo_unfinished_loads(of_date date default null) returns void language plpgsql as $$
declare
    unfinished record;
    built record;
    lost_tables text [] := '{}';
    lost_dates date [] := '{}';
begin
    loop
        select
            history.as_of, history.load_id,
            exists (
                select from ops.history as merged
                where (merged.as_of, merged.load_id) = (history.as_of, history.load_id) and merged.rows_inserted is not null
            ) as is_in_production
        into unfinished
        from ops.history as history
        where history.load_id not in (select load_id from ops.published)
            and case
                when of_date is not null then
                    history.as_of = of_date
                    and history.load_id > coalesce((select max(published.load_id) from ops.published as published where published.as_of = of_date), 0)
                else
                    history.load_id is distinct from (select max(load_id) from ops.staged)
                    and (history.table_name, history.as_of) not in (select table_name, as_of from ops.standing_history)
            end
        order by history.load_id desc
        limit 1;
        exit when not found;
        for built in
            select history.*, restatements.replaced
            from ops.history as history
            left join ops.restatements as restatements using (table_name, as_of, load_id)
            where (history.as_of, history.load_id) = (unfinished.as_of, unfinished.load_id)
        loop
            perform ops.undo_history(built.table_name, built.as_of, built.partition_name, built.replaced);
            -- a restated table that production did not take in may have lost rows to the foreign keys of one that it did
            if built.rows_inserted is not null or (unfinished.is_in_production and built.replaced is not null) then
                lost_tables := lost_tables || built.table_name;
                lost_dates := lost_dates || built.as_of;
            end if;
        end loop;
    end loop;
    -- only now, as an entry that was put back may itself have been undone
    perform ops.take_in_again(lost.table_name, lost.as_of)
    from (select distinct each.* from unnest(lost_tables, lost_dates) as each (table_name, as_of)) as lost;
end
$$;

-- Adds to replaced rows the columns that their table got after they were replaced.
create or replace function ops.add_columns(kept regclass, parent regclass) returns void language plpgsql as $$
declare
    statement text;
begin
    for statement in
        select format('alter table %s add column %I %s', kept, attname, format_type(atttypid, atttypmod))
        from pg_attribute as declared
        where attrelid = parent and attnum > 0 and not attisdropped
            and not exists (select from pg_attribute as known where known.attrelid = kept and known.attname = declared.attname)
    loop
        execute statement;
    end loop;
end
$$;

-- Drops a partition of history, and puts back the one that it replaced.
create or replace function ops.undo_history(of_table text, of_date date, partition text, entry_before jsonb) returns void
language plpgsql as $$
declare
    parent regclass := format('public.%I', of_table || '_snapshots');
    kept text;
begin
    execute format('lock table history.%I in share row exclusive mode', partition);  -- see ops.build_history
    execute format('alter table %s detach partition history.%I', parent, partition);
    execute format('drop table history.%I', partition);
    delete from ops.history where (table_name, as_of) = (of_table, of_date);
    if entry_before is null then
        return;
    end if;
    kept := format('history.%I', entry_before ->> 'partition_name');
    execute format('alter table restated.%I set schema history', entry_before ->> 'partition_name');
    perform ops.add_columns(kept::regclass, parent);
    perform ops.add_checks(parent, kept);
    execute format('alter table %s attach partition %s for values in (%L)', parent, kept, of_date);
    insert into ops.history select (jsonb_populate_record(null::ops.history, entry_before)).*;
    delete from ops.restatements where table_name = of_table and as_of = of_date and replaced_load_id = (entry_before ->> 'load_id')::bigint;
end
$$;

-- Production holds rows of history that was just undone. Marks that date, or the newest merged one, as not merged, so that the next run
-- rebuilds the table; without any merged history, empties it. Foreign keys that refer to it go first, as they would empty other tables too;
-- production makes those that are declared again.
create or replace function ops.take_in_again(of_table text, of_date date) returns void language plpgsql as $$
declare
    key record;
begin
    update ops.history
    set merged_at = null
    where table_name = of_table and as_of = (
        select as_of from ops.history where table_name = of_table and rows_inserted is not null order by as_of = of_date desc, as_of desc limit 1
    );
    if not found then
        for key in
            select conrelid::regclass as child, conname as name
            from pg_constraint
            where contype = 'f' and conparentid = 0 and confrelid = to_regclass(format('public.%I', of_table))
        loop
            execute format('alter table %s drop constraint %I', key.child, key.name);
        end loop;
        execute format('delete from public.%I', of_table);
    end if;
end
$$;
{% endmacro %}
