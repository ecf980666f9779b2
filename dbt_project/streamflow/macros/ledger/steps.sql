{#- What the steps of a dbt run do in the database besides selecting rows. -#}

{#- The two keys of the advisory run lock. An ingest holds it exclusively; the steps of dbt by hand share it. -#}
{% macro run_lock() %}24336, 1{% endmacro %}


{% macro ops_steps() %}
-- Every step that writes calls this first. dbt by hand shares the run lock, so that no month lands until its transaction ends; the dbt run
-- of an ingest checks that the ingest still holds that lock. The table's lock comes last, so that whoever waits for it is already covered
-- by the run lock. It holds off other people's writes too, with which a merge could deadlock.
create or replace function ops.begin_step(invocation text, target regclass default null) returns void language plpgsql as $$
declare
    ingest int := (select lock_holder from ops.runs where invocation_id = invocation);
begin
    if ingest is null and not pg_try_advisory_xact_lock_shared({{ run_lock() }}) then
        raise exception 'an ingest or a check is under way on this database (`streamflow status` names it): run dbt when it has ended';
    elsif ingest is not null and not exists (
        select from pg_locks
        where (locktype, mode, pid, granted) = ('advisory', 'ExclusiveLock', ingest, true)
            and (classid::int, objid::int) = ({{ run_lock() }})
            and database = (select oid from pg_database where datname = current_database())
    ) then
        raise exception 'the ingest that began this run has lost its connection to the database, and its lock with it';
    elsif current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'this session is %, and would miss what other sessions write: take `role` from the profiles.yml that streamflow wrote',
            current_setting('transaction_isolation');
    end if;
    perform ops.require_settled_cluster();
    if target is not null then
        execute format('lock table only %s in share row exclusive mode', target);  -- not its partitions, which others may vacuum
    end if;
end
$$;

-- Raises unless staging still holds what this run audited; rows of a published load are not counted, as a crash may have lost them.
create or replace function ops.open_gate(invocation text) returns void language plpgsql as $$
declare
    audited bigint := (select load_id from ops.runs where invocation_id = invocation);
    landed record;
    row_count bigint;
begin
    if audited is not null and not exists (select from ops.staged) then
        raise exception 'the gate stays closed: staging is empty, as after a crash of the server or a landing that failed'
            using hint = 'Land the month again.';
    elsif audited is distinct from (select max(load_id) from ops.staged) then
        raise exception 'the gate stays closed: staging was landed again while its audits ran' using hint = 'Run `dbt build` again.';
    end if;
    for landed in select * from ops.staged where load_id not in (select load_id from ops.published) loop
        execute format('select count(*) from staging.%I', landed.table_name) into row_count;
        if row_count <> landed.row_count then
            raise exception 'the gate stays closed: staging.% does not hold the rows that were landed', landed.table_name
                using hint = 'Land the month again.';
        end if;
    end loop;
    perform ops.undo_unfinished_loads();
    perform ops.require_months_before(to_build.table_name, to_build.as_of) from ops.to_build as to_build;
    delete from ops.audits where (load_id, audit_id) in (select load_id, 'gate' from ops.runs where invocation_id = invocation);
end
$$;

-- If this run failed an audit of a load that is not published, that load must pass the gate again before anything is built from it.
create or replace function ops.close_gate(invocation text) returns void language plpgsql as $$
begin
    if to_regclass('ops.gate') is not null and exists (
        select from ops.audits as audits
        inner join ops.runs as runs on runs.load_id = audits.load_id and runs.invocation_id = invocation
        where (audits.severity, audits.status) = ('error', 'fail') and audits.audited_at >= runs.started_at
            and audits.load_id not in (select published.load_id from ops.published as published)
    ) then
        delete from ops.gate where load_id = (select runs.load_id from ops.runs as runs where runs.invocation_id = invocation);
    end if;
end
$$;

-- Empties staging, so that no audit reads rows of a month that was given up or lost.
create or replace function ops.empty_staging() returns void language plpgsql as $$
declare
    landed regclass;
begin
    for landed in select distinct to_regclass(format('staging.%I', table_name)) from ops.landed_files loop
        continue when landed is null;
        execute format('truncate %s', landed);
    end loop;
end
$$;

-- Returns the load that staging holds. Staging tables are unlogged, so a crash of the server empties them: then this empties ops.staged,
-- and returns the lost load only if that was still to be published.
create or replace function ops.load_in_staging() returns bigint language plpgsql as $$
declare
    landed bigint := (select max(load_id) from ops.staged);
    is_to_publish boolean := ops.is_to_publish();
begin
    if exists (
        select from ops.staged
        where row_count > 0 and ops.has_landed_rows(to_regclass(format('staging.%I', table_name)), row_count) is not true
    ) then
        if ops.is_cluster() then  -- a node's crash empties only its shards
            perform ops.empty_staging();
        end if;
        delete from ops.staged;
        return case when is_to_publish then landed end;
    end if;
    return landed;
end
$$;

-- The dates, as SQL, whose history a new month of a table is built on; which of them are archived, and in which folder.
create or replace function ops.months_before(of_table text, new_month date, out dates text, out archived text, out folder text)
language sql stable as $$
    select
        coalesce(string_agg(format('date %L', known.as_of), ', ' order by known.as_of desc), 'null::date'),
        string_agg(kept.as_of::text, ' ' order by kept.as_of),
        max(kept.folder)
    from (
        select history.as_of, history.load_id, first_value(history.load_id) over (order by history.as_of desc) as newest_load
        from ops.standing_history as history
        where history.table_name = of_table and history.as_of < new_month
    ) as known
    left join ops.archived as kept on kept.as_of = known.as_of and kept.table_name = of_table
    where known.load_id >= known.newest_load
$$;

-- Raises if one of these dates is archived, or if they differ from `read`, the dates in the compiled model; null is not compared.
create or replace function ops.require_months_before(of_table text, new_month date, read text [] default null) returns void
language plpgsql stable as $$
declare
    before record := ops.months_before(of_table, new_month);
begin
    if before.archived is not null then
        raise exception 'this month is built on %, which is archived in %: `streamflow archive --restore %` first. Nothing was changed.',
            before.archived, before.folder, before.archived;
    elsif before.dates <> all(read) then
        raise exception 'months were published or removed while % waited: run the command again. Nothing was changed.', of_table;
    end if;
end
$$;

-- Fills a new partition with the rows that a history model selects, and enters it with a checksum. Never changes an existing partition;
-- if the load restates the month from another file, moves it to the schema `restated`. `read` has the dates that the model reads.
create or replace function ops.build_history(parent regclass, selected regclass, key text [], names text [], read text []) returns text
language plpgsql as $$
declare
    build record;
    partition text;
    columns text := ops.identifiers(names);
    total bigint;
    delivered bigint;
    checksum numeric;
begin
    select to_build.* into build
    from ops.to_build as to_build
    inner join ops.gate as gate on gate.load_id = to_build.load_id
    where to_regclass(format('public.%I', to_build.table_name || '_snapshots')) = parent;
    if not found then
        execute format('drop view %s', selected);
        return 'the history of this month stands, or nothing passed the gate';
    end if;
    perform ops.require_months_before(build.table_name, build.as_of, read);
    if build.replaces is not null then  -- a vacuum of it is waited for here, where readers of the table are not held up
        execute format('lock table history.%I in share row exclusive mode', build.replaces);
    end if;
    partition := build.table_name || to_char(build.as_of, '_YYYY_MM_DD')
        || case when build.replaces is null then '' else '_load_' || build.load_id end;
    execute format('create table history.%I (like %s)', partition, parent);
    perform ops.spread(format('history.%I', partition), key[1]);
    execute format('insert into history.%I (%s) select %2$s from %s', partition, columns, selected);
    execute format('drop view %s', selected);
    execute format('select count(*), count(*) filter (where observed_as_of = as_of) from history.%I', partition) into total, delivered;
    if delivered <> build.row_count then
        raise exception '% would get % delivered rows of %, and % were landed: does the model leave rows out, or was staging changed?'
            ' History is as it was.', parent, delivered, build.as_of, build.row_count;
    end if;
    perform ops.key_partition(format('history.%I', partition), ops.identifiers(key));
    checksum := ops.checksum(format('history.%I', partition), names);
    if build.replaces is not null then  -- from here on readers wait
        perform ops.lock_out_readers(
            format('only %s, history.%I', parent, build.replaces), format('%s cannot be restated while others read it', parent)
        );
        execute format('alter table %s detach partition history.%I', parent, build.replaces);
        execute format('alter table history.%I set schema restated', build.replaces);
        insert into ops.restatements (table_name, as_of, replaced_load_id, load_id, restated_by, reason, kept_in, replaced)
        select
            history.table_name, history.as_of, history.load_id, loads.load_id, loads.started_by, loads.reason,
            'restated.' || history.partition_name, to_jsonb(history)
        from ops.history as history
        inner join ops.loads as loads on loads.load_id = build.load_id
        where (history.table_name, history.as_of) = (build.table_name, build.as_of);
        delete from ops.history where (table_name, as_of) = (build.table_name, build.as_of);
    end if;
    perform ops.attach_partition(parent, format('history.%I', partition), build.as_of);
    insert into ops.history (table_name, as_of, load_id, rows_delivered, rows_total, partition_name, checksum, checksum_columns)
    values (build.table_name, build.as_of, build.load_id, delivered, total, partition, checksum, names);
    return format('%s rows, %s of them delivered', total, delivered);
end
$$;
{% endmacro %}
