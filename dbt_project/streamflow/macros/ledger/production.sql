{#- What production of a table takes in, and whether it has it all. -#}
{% macro ops_production() %}
-- What production of a table is to do. One row; dates are SQL.
-- rebuild: whether it is rebuilt from all of history: with --full-refresh, or if one of the unmerged months may lack rows that it brought
--     before, because the month was restated or is taken in again
-- reads: the condition for the rows of history that it reads: those that the unmerged months delivered. If there is no such month, those
--     that the newest month delivered, although none of them is merged
-- unmerged: the complete months that it has not taken in yet; uncounted: those of them that it takes in for the first time
-- newest: the newest complete month
-- A rebuild reads the rows of archived months from the dates on which a month after all others would be built, because only these have
-- every row of an archived date that still counts. Raises instead of rebuilding while a published month is half restated, because the rows
-- of that month would be lost.
create or replace function ops.plan_production(of_table text, full_refresh boolean) returns table (
    rebuild boolean, reads text, unmerged text, uncounted text [], newest text
) language plpgsql stable as $$
declare
    half_restated date;
    months text;
    archived text;
begin
    select
        full_refresh or coalesce(bool_or(known.is_new and known.is_restated), false),
        string_agg(known.day, ', ' order by known.as_of),
        string_agg(known.day, ', ' order by known.as_of) filter (where known.is_new),
        array_agg(known.day order by known.as_of) filter (where known.is_new and known.is_uncounted),
        max(known.day),
        string_agg(known.day, ', ' order by known.as_of) filter (where known.is_archived)
    into rebuild, months, unmerged, uncounted, newest, archived
    from (
        select
            history.as_of,
            format('date %L', history.as_of) as day,
            history.merged_at is null as is_new,
            history.rows_inserted is null as is_uncounted,
            history.rows_inserted is not null or exists (
                select from ops.restatements as restated
                where (restated.table_name, restated.as_of, restated.load_id) = (history.table_name, history.as_of, history.load_id)
            ) as is_restated,
            exists (
                select from ops.archived as kept where (kept.table_name, kept.as_of) = (history.table_name, history.as_of)
            ) as is_archived
        from ops.standing_history as history
        where history.table_name = of_table
    ) as known;

    select min(history.as_of) into half_restated
    from ops.history as history
    where
        history.table_name = of_table
        and history.as_of in (select published.as_of from ops.published as published)
        and (history.table_name, history.as_of) not in (select standing.table_name, standing.as_of from ops.standing_history as standing);
    if rebuild and half_restated is not null then
        raise exception '% cannot be rebuilt while the restatement of % is unfinished', of_table, half_restated
            using hint = 'Ingest that month again with --restate, or give the restatement up: `streamflow abandon`, with its number.';
    end if;
    reads := format(
        'as_of in (%s) and (observed_as_of = as_of%s)',
        coalesce(case when rebuild then months else coalesce(unmerged, newest) end, 'null::date'),
        case when rebuild and archived is not null then format(
            ' or (as_of in (%s) and observed_as_of in (%s))', (ops.months_before(of_table, 'infinity')).dates, archived
        ) end
    );
    return next;
end
$$;

-- Raises unless a model of production returns one row for each row that was delivered; `read` is how many rows it returns.
create or replace function ops.require_every_row(target regclass, read bigint, delivered bigint) returns void language plpgsql as $$
begin
    if read <> delivered then
        raise exception '% would read % rows, and history has % that were delivered: the model of production leaves rows out, or repeats some.'
            ' Correct it; if it does neither, `streamflow verify` says what is wrong with history. The table is as it was.', target, read, delivered;
    end if;
end
$$;

-- The last step of production. Adds missing keys after the rows, because building a key once is several times faster than maintaining it
-- row by row. If production takes in the newest month, and the history of that month was written last, checks that production has as many
-- rows as that history. After a late month this check is impossible: customers whom only that month has are in no newer history.
create or replace function ops.finish_merge(target regclass, declared jsonb, newest date) returns void language plpgsql as $$
declare
    key record;
    said record;
    known bigint;
    delivered bigint;
begin
    for key in select *, ops.identifiers(columns) as named from ops.declared_keys(target, declared) where is_missing loop
        if key.type = 'primary_key' then
            execute format('alter table %s add primary key (%s)', target, key.named);
            execute format('alter table %s replica identity default', target);
            perform ops.sample(target);
        else
            continue when not ops.can_refer(target, key.parent);
            -- `on delete cascade` finds rows by an index that begins with these columns
            if not exists (
                select from pg_index
                where indrelid = target and indpred is null
                    and (ops.columns(target, indkey::smallint []))[:cardinality(key.columns)] = key.columns
            ) then
                execute format('create index on %s (%s)', target, key.named);
            end if;
            execute format(
                'alter table %s add foreign key (%s) references %s (%s) on delete cascade',
                target, key.named, key.parent, ops.identifiers(key.to_columns)
            );
        end if;
    end loop;

    select * into said
    from (
        select history.*, history.built_at = max(history.built_at) over () as is_last
        from ops.history as history
        where to_regclass(format('public.%I', history.table_name)) = target
    ) as known
    where known.as_of = newest and known.is_last;
    if found then
        execute format('select count(*), count(*) filter (where observed_as_of = %L) from %s', newest, target) into known, delivered;
        if (known, delivered) <> (said.rows_total, said.rows_delivered) then
            raise exception '% would have % rows (% of %), and its history has % (% of that date), so the month is not published. If the model'
                ' of history left rows out, correct it, and give the month up: `streamflow abandon`, with its number. If not, `streamflow'
                ' verify` says what differs, and `streamflow dbt run --full-refresh --select path:models/production` rebuilds production.',
                target, known, delivered, newest, said.rows_total, said.rows_delivered;
        end if;
    end if;
    perform ops.hide_until_committed(target);
end
$$;
{% endmacro %}
