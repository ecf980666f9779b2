{#- The ledger: its tables and views. -#}
{% macro ops_tables() %}
do $$
declare
    name text;
begin
    if current_setting('server_encoding') <> 'UTF8' then
        raise exception 'the database % holds %, and files are UTF-8: make another one, `create database streamflow_utf8 encoding ''UTF8'''
            ' template template0`, and name it in POSTGRES_DB', current_database(), current_setting('server_encoding');
    elsif to_regclass('ops.loads') is not null and to_regclass('ops.waivers') is null then
        raise exception 'this database was made by an earlier version of streamflow, which kept another ledger: use a new database';
    end if;
    -- `create schema if not exists` fails for a role without CREATE on the database, even if the schema exists
    foreach name in array array['ops', 'staging', 'history', 'restated'] loop
        if to_regnamespace(name) is null then
            execute format('create schema if not exists %I', name);
        end if;
    end loop;
end
$$;

-- functions of earlier versions that no longer exist, or whose arguments or results have changed
drop function if exists
    ops.attach_partition(regclass, regclass, text, date),
    ops.build_history(regclass, regclass, text [], text []),
    ops.can_refer(regclass, text),
    ops.clear_lost_staging(),
    ops.column_list(regclass, smallint []),
    ops.delivered_otherwise(text, text, date),
    ops.drop_left_over_keys(text [], jsonb),
    ops.finish_merge(regclass, jsonb, boolean),
    ops.follow_declaration(jsonb),
    ops.is_declared(pg_constraint, jsonb),
    ops.is_left_over(pg_constraint, jsonb),
    ops.left_behind(),
    ops.left_behind(jsonb),
    ops.missing_keys(regclass, jsonb),
    ops.months_before(text),
    ops.plan_production(text, boolean),
    ops.production_plan(text, boolean),
    ops.rebuild_below(regclass),
    ops.require_months_before(text, date),
    ops.unmatched(jsonb),
    ops.unmatched(jsonb, jsonb);

-- one row per attempt at a month
create table if not exists ops.loads (
    load_id bigint generated always as identity primary key,
    command text not null,
    month text not null,
    as_of date not null,
    state text not null default 'running',
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    started_by text not null,
    data_dir text not null,
    restates boolean not null default false,
    reason text,
    files jsonb not null default '[]',
    timings jsonb not null default '{}',
    versions jsonb not null default '{}',
    failed_nodes text [] not null default '{}',
    error text
);

-- what staging holds; empty while a landing is under way
create table if not exists ops.staged (
    table_name text primary key,
    load_id bigint not null references ops.loads,
    as_of date not null,
    row_count bigint not null,
    landed_at timestamptz not null default clock_timestamp()
);

-- which load staging held when a dbt run began; lock_holder is the backend's process id of the ingest that began it, null for dbt by hand
create table if not exists ops.runs (
    invocation_id text primary key,
    load_id bigint references ops.loads,
    lock_holder int,
    started_at timestamptz not null default clock_timestamp()
);

create table if not exists ops.audits (
    load_id bigint not null references ops.loads,
    audit_id text not null,
    audit_name text not null,
    table_name text not null,
    column_name text,
    severity text not null,
    status text not null,
    failures bigint not null,
    finding text,
    audited_at timestamptz not null default clock_timestamp(),
    primary key (load_id, audit_id)
);

-- error-level audits that only warn on the rows of this load
create table if not exists ops.waivers (
    load_id bigint not null references ops.loads,
    audit_name text not null,
    reason text not null,
    waived_by text not null,
    waived_at timestamptz not null default clock_timestamp(),
    primary key (load_id, audit_name)
);

-- one row per table and as_of that has history; merged_at is when production took the delivery in
create table if not exists ops.history (
    table_name text not null,
    as_of date not null,
    load_id bigint not null references ops.loads,
    rows_delivered bigint not null,
    rows_total bigint not null,
    partition_name text not null,
    checksum numeric not null,
    checksum_columns text [] not null,
    built_at timestamptz not null default clock_timestamp(),
    rows_inserted bigint,
    rows_updated bigint,
    merged_at timestamptz,
    primary key (table_name, as_of)
);

-- `replaced` is the row of ops.history that the restated rows had
create table if not exists ops.restatements (
    table_name text not null,
    as_of date not null,
    replaced_load_id bigint not null references ops.loads,
    load_id bigint not null references ops.loads,
    restated_at timestamptz not null default clock_timestamp(),
    restated_by text not null,
    reason text not null,
    kept_in text not null,
    replaced jsonb not null,
    primary key (table_name, as_of, replaced_load_id)
);

-- one row per publication; if an as_of has several, the one with the newest load counts
create table if not exists ops.published (
    load_id bigint primary key,
    as_of date not null,
    month text not null,
    published_at timestamptz not null
);

-- one row per event that changed what readers get; sha256 is the SHA-256 of the link before's sha256 followed by `tells`
create table if not exists ops.chain (
    link bigint primary key,
    tells jsonb not null,
    sha256 text not null
);

-- history that is in files and not in the database: tables and dates whose last link of archiving or restoring is `archived`
create or replace view ops.archived as
select *
from (
    select distinct on (entry."table", entry.as_of)
        entry."table" as table_name,
        entry.as_of,
        entry.load as load_id,
        chain.tells ->> 'folder' as folder,
        entry.file,
        entry.sha256,
        chain.tells ->> 'event' as event
    from ops.chain
    cross join lateral jsonb_to_recordset(chain.tells -> 'tables') as entry (
        "table" text, as_of date, load bigint, file text, sha256 text
    )
    where chain.tells ->> 'event' in ('archived', 'restored')
    order by entry."table" asc, entry.as_of asc, chain.link desc
) as told
where told.event = 'archived';

-- forgotten customers, who must not land again, by a keyed hash of their id; `link` is the link of the chain that records it
create table if not exists ops.forgotten (
    tombstone bytea primary key,
    key uuid not null,
    link bigint not null
);

-- the table that had the customers, and the columns that named them, as table.column; null until the next month in tombstones of 0.2.0
alter table ops.forgotten add column if not exists customers_in text, add column if not exists named_in text [];

-- the files that each load landed; content is a hash of their bytes and of how they were read
create or replace view ops.landed_files as
select
    loads.load_id,
    loads.as_of,
    loads.month,
    loads.restates,
    file ->> 'table' as table_name,
    file ->> 'sha256' as sha256,
    coalesce(file ->> 'content', file ->> 'sha256') as content
from ops.loads as loads
cross join lateral jsonb_array_elements(loads.files) as file;

-- history that lacks what a later load, `changed_by`, wrote for an earlier date, which arrived late or was restated
create or replace view ops.outdated_history as
select history.table_name, history.as_of, earlier.load_id as changed_by
from ops.history as history
inner join ops.history as earlier
    on history.table_name = earlier.table_name and earlier.as_of < history.as_of and history.load_id < earlier.load_id;

-- the tables that each load landed, and the history of their date; `stands` unless the load has to build it: it was built by this load or
-- from the same file and, if the load restates, is not outdated, so that all tables of a restated month stand on the same months
create or replace view ops.landed_history as
select
    files.load_id,
    files.as_of,
    files.month,
    files.restates,
    files.table_name,
    history.load_id as built_by,
    history.partition_name,
    history.merged_at,
    history.load_id = files.load_id
    or (
        built_from.content = files.content
        and not (
            files.restates
            and files.load_id not in (select published.load_id from ops.published)  -- 0.2.0 published outdated history
            and exists (
                select from ops.outdated_history as outdated
                where (outdated.table_name, outdated.as_of) = (history.table_name, history.as_of) and outdated.changed_by < files.load_id
            )
        )
    ) as stands
from ops.landed_files as files
left join ops.history as history on history.table_name = files.table_name and history.as_of = files.as_of
left join ops.landed_files as built_from on built_from.load_id = history.load_id and built_from.table_name = files.table_name;

-- loads that production may take in: the history of every table that the load landed stands. A load that built no history is not complete,
-- as its month was there already.
create or replace view ops.complete_loads as
select load_id, as_of, month, bool_and(merged_at is not null) as is_merged
from ops.landed_history
group by load_id, as_of, month
having bool_or(built_by = load_id) and bool_and(coalesce(stands, false));

-- the landed tables that are to become history: those without history of that date, and those whose history a restatement rebuilds
create or replace view ops.to_build as
select staged.table_name, staged.load_id, staged.as_of, staged.row_count, landed.partition_name as replaces
from ops.staged as staged
inner join ops.landed_history as landed on landed.load_id = staged.load_id and landed.table_name = staged.table_name
where landed.built_by is null or (landed.restates and not landed.stands);

-- the history of each date that has a complete load, built by that load or by an earlier one
create or replace view ops.standing_history as
select history.*
from ops.history as history
where exists (
    select 1 from ops.complete_loads as complete
    where complete.as_of = history.as_of and complete.load_id >= history.load_id
);

-- per table in staging, the newest earlier month with complete history, and whether row count and file are the same by the ledger
create or replace view ops.month_before as
select distinct on (staged.table_name)
    staged.table_name,
    history.as_of,
    history.rows_delivered,
    history.rows_delivered = staged.row_count as is_same_count,
    coalesce(built_from.content = landed.content, false) as is_same_file
from ops.staged as staged
inner join ops.standing_history as history on history.table_name = staged.table_name and history.as_of < staged.as_of
left join ops.landed_files as landed on landed.load_id = staged.load_id and landed.table_name = staged.table_name
left join ops.landed_files as built_from on built_from.load_id = history.load_id and built_from.table_name = history.table_name
order by staged.table_name asc, history.as_of desc;
{% endmacro %}
