{#- Plain Jinja on purpose: the loader renders these macros too, before dbt is up. -#}

{#- PostgreSQL refuses `create schema if not exists` to a role without CREATE on the database, even where the schema is there. -#}
{% macro schema_ddl(name) %}
do $$
begin
    if to_regnamespace('{{ name }}') is null then
        create schema if not exists {{ name }};
    end if;
end
$$;
{%- endmacro %}


{% macro ops_ddl() %}
{{ schema_ddl('ops') }}
{{ schema_ddl('staging') }}
{{ schema_ddl('restated') }}

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
    counts jsonb not null default '[]',
    timings jsonb not null default '{}',
    versions jsonb not null default '{}',
    dbt_invocation_id text,
    error text
);

create table if not exists ops.staged (
    table_name text primary key,
    load_id bigint not null references ops.loads,
    as_of date not null,
    row_count bigint not null
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
    audited_at timestamptz not null default clock_timestamp(),
    primary key (load_id, audit_id)
);

create table if not exists ops.history (
    table_name text not null,
    as_of date not null,
    load_id bigint not null references ops.loads,
    build_number bigint generated always as identity,
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

create table if not exists ops.restatements (
    table_name text not null,
    as_of date not null,
    replaced_load_id bigint not null references ops.loads,
    load_id bigint not null references ops.loads,
    restated_at timestamptz not null default clock_timestamp(),
    restated_by text not null,
    reason text not null,
    kept_in text not null,
    primary key (table_name, as_of, replaced_load_id)
);

create or replace function ops.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is history and stays as it was written: % is refused', tg_relid::regclass, lower(tg_op)
        using errcode = 'object_not_in_prerequisite_state',
        hint = 'History changes only by publishing a month.';
end
$$;
{% endmacro %}
