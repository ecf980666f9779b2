{#- Checksums and links that prove history, and triggers that keep it immutable. -#}
{% macro ops_proofs() %}
-- the sum of a 64-bit hash of each row, in any order. PostgreSQL's hash of a row is linear in its values, so two customers could swap
-- values and leave the sum as it is: it is hashed once more. Numbers are hashed by their digits, and neither a setting nor a function that
-- somebody put into public affects the result.
create or replace function ops.checksum(relation regclass, columns text [])
returns numeric
language plpgsql stable set search_path = pg_catalog as $$
declare
    result numeric;
begin
    execute format(
        'select coalesce(sum(pg_catalog.hashint8extended(pg_catalog.hash_record_extended(row(%s), 0), 0)), 0) from %s',
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

create or replace function ops.link_sha256(before text, tells jsonb) returns text language sql stable as $$
    select encode(sha256(convert_to(coalesce(before, '') || tells::text, 'UTF8')), 'hex')
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

-- adds a link for each publication that has none, with the load, the number of rows and their checksum of every table that readers get;
-- they do not get archived history
create or replace function ops.link_publications() returns setof bigint language sql as $$
    select ops.add_link(jsonb_build_object(
        'event', 'published', 'at', published_at, 'load', load_id, 'as_of', as_of, 'month', month, 'tables', (
            select jsonb_agg(jsonb_build_object(
                'table', table_name, 'as_of', as_of, 'load', load_id, 'rows', rows_total, 'checksum', checksum
            ) order by table_name)
            from ops.history as history
            where
                history.as_of = published.as_of
                and (history.table_name, history.as_of) not in (select kept.table_name, kept.as_of from ops.archived as kept)
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

-- refuses every change of a table's rows; two triggers, as a cluster creates one that includes TRUNCATE on its coordinator only
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

-- adds the key to a table that is to become a partition of history, and samples it for the planner; both take long
create or replace function ops.key_partition(partition regclass, key text) returns void
language plpgsql set default_statistics_target = 10 as $$
begin
    execute format('alter table %s add primary key (%s)', partition, key);
    execute format('analyze %s', partition);
end
$$;

-- gives a table that is to become a partition of history the checks that somebody added to history. Added after the rows, a check that
-- they break fails without showing one of them.
create or replace function ops.add_checks(parent regclass, partition regclass) returns void language plpgsql as $$
declare
    statement text;
begin
    for statement in
        select format('alter table %s add constraint %I %s', partition, conname, pg_get_constraintdef(oid))
        from pg_constraint as declared
        where conrelid = parent and contype = 'c'
            and not exists (select from pg_constraint as known where known.conrelid = partition and known.conname = declared.conname)
    loop
        execute statement;
    end loop;
end
$$;

-- makes a table that has its rows and its key a partition of history
create or replace function ops.attach_partition(parent regclass, partition regclass, as_of date) returns void language plpgsql as $$
begin
    perform ops.add_checks(parent, partition);
    execute format('alter table %s attach partition %s for values in (%L)', parent, partition, as_of);
    perform ops.make_immutable(partition);
end
$$;
{% endmacro %}
