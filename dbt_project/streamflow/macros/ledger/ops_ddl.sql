{#- The ledger's tables. Plain Jinja: the loader renders this file too, before dbt is up. -#}

{#- The two keys of the advisory lock that an ingest holds alone, and the steps of a dbt run by hand share. -#}
{% macro run_lock() %}24336, 1{% endmacro %}


{% macro ops_ddl() %}
-- PostgreSQL refuses `create schema if not exists` to a role without CREATE on the database, even where the schema is there
{%- for name in ['ops', 'staging', 'history', 'restated'] %}
do $$
begin
    if to_regnamespace('{{ name }}') is null then
        create schema if not exists {{ name }};
    end if;
end
$$;
{%- endfor %}

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

-- which load staging held when a dbt run began; lock_holder is the session of the ingest that began it, null by hand
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

-- one row per table and as_of whose history stands; merged_at is when production took the delivery in
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

-- one row per publication; of several for one as_of the newest load counts
create table if not exists ops.published (
    load_id bigint primary key,
    as_of date not null,
    month text not null,
    published_at timestamptz not null
);

-- what readers were given, and that some were taken out of it; each link has the SHA-256 of the one before and of what it tells
create table if not exists ops.chain (
    link bigint primary key,
    tells jsonb not null,
    sha256 text not null
);

-- history that is in files and not in the database: what the chain tells last of each table and date that was ever archived
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

-- customers who must not come back, by a keyed hash of who they are; link is the one of the chain that tells of it
create table if not exists ops.forgotten (
    tombstone bytea primary key,
    key uuid not null,
    link bigint not null
);

-- the files that each load landed
create or replace view ops.landed_files as
select loads.load_id, loads.as_of, loads.month, loads.restates, file ->> 'table' as table_name, file ->> 'sha256' as sha256
from ops.loads as loads
cross join lateral jsonb_array_elements(loads.files) as file;

-- a load is complete when the history of every table that it landed stands, built by it or from the same file: production may
-- take it in. One that built nothing is none: its month was there already.
create or replace view ops.complete_loads as
select files.load_id, files.as_of, files.month, bool_and(history.merged_at is not null) as is_merged
from ops.landed_files as files
left join ops.history as history on history.table_name = files.table_name and history.as_of = files.as_of
left join ops.landed_files as built_from on built_from.load_id = history.load_id and built_from.table_name = files.table_name
group by files.load_id, files.as_of, files.month
having
    bool_or(history.load_id = files.load_id)
    and bool_and(coalesce(history.load_id = files.load_id or built_from.sha256 = files.sha256, false));

-- history of complete loads, also where a later one has replaced a part of it
create or replace view ops.standing_history as
select history.*
from ops.history as history
where exists (
    select 1 from ops.complete_loads as complete
    where complete.as_of = history.as_of and complete.load_id >= history.load_id
);

-- of all rows, whatever their order: the sum of a 64-bit hash of each. A row's hash is linear in its values: hashed once more, no
-- swap of two customers' values leaves the sum as it is. Numbers count by their digits, and nothing depends on a setting.
create or replace function ops.checksum(relation regclass, columns text [])
returns numeric
language plpgsql stable as $$
declare
    result numeric;
begin
    execute format(
        'select coalesce(sum(hashint8extended(hash_record_extended(row(%s), 0), 0)), 0) from %s',
        (
            select string_agg(quote_ident(attname) || case when atttypid = 'numeric'::regtype then '::text' else '' end, ', ' order by place)
            from unnest(columns) with ordinality as covered (name, place)
            inner join pg_attribute on attrelid = relation and attname = name and not attisdropped
        ),
        relation
    ) into result;
    return result;
end
$$;

create or replace function ops.link_sha256(before text, tells jsonb) returns text language sql immutable as $$
    select encode(sha256(convert_to(coalesce(before, '') || tells, 'UTF8')), 'hex')
$$;

create or replace function ops.add_link(tells jsonb) returns bigint language plpgsql as $$
declare
    added bigint;
begin
    lock table ops.chain in share row exclusive mode;
    insert into ops.chain as chain
    select coalesce(max(link), 0) + 1, add_link.tells, ops.link_sha256((array_agg(sha256 order by link desc))[1], add_link.tells)
    from ops.chain
    returning chain.link into added;
    return added;
end
$$;

-- a link for each publication that has none: of every table the load, the rows and their checksum, as readers get them
create or replace function ops.link_publications() returns setof bigint language sql as $$
    select ops.add_link(jsonb_build_object(
        'event', 'published', 'at', published_at, 'load', load_id, 'as_of', as_of, 'month', month, 'tables', (
            select jsonb_agg(jsonb_build_object(
                'table', table_name, 'as_of', as_of, 'load', load_id, 'rows', rows_total, 'checksum', checksum
            ) order by table_name)
            from ops.history as history
            where history.as_of = published.as_of
        )
    ))
    from ops.published as published
    where not exists (select from ops.chain where tells @> jsonb_build_object('event', 'published', 'load', published.load_id))
    order by load_id
$$;

create or replace function ops.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is history and stays as it was written: % is refused', tg_relid::regclass, lower(tg_op)
        using errcode = 'object_not_in_prerequisite_state',
        hint = 'History changes only by publishing a month.';
end
$$;

-- rows of history come and stay; two triggers, since one for TRUNCATE among others is known to a cluster's coordinator only
create or replace function ops.make_immutable(relation regclass) returns void language plpgsql as $$
begin
    perform set_config('citus.enable_unsafe_triggers', 'on', true);
    execute format(
        'create trigger history_is_immutable before insert or update or delete on %s'
        ' for each statement execute function ops.refuse_change()', relation
    );
    execute format(
        'create trigger history_is_not_truncated before truncate on %s'
        ' for each statement execute function ops.refuse_change()', relation
    );
end
$$;

-- makes a filled table a partition of history; with the check PostgreSQL attaches it without reading the rows again
create or replace function ops.attach_partition(parent regclass, partition regclass, key text, as_of date) returns void
language plpgsql as $$
begin
    execute format('alter table %s add constraint as_of_of_this_partition check (as_of = %L)', partition, as_of);
    execute format('alter table %s add primary key (%s)', partition, key);
    execute format('alter table %s attach partition %s for values in (%L)', parent, partition, as_of);
    execute format('alter table %s drop constraint as_of_of_this_partition', partition);
    perform ops.make_immutable(partition);
    execute format('analyze %s', partition);
end
$$;
{% endmacro %}
