{#- All that a Citus cluster needs beyond one PostgreSQL. -#}
{% macro ops_cluster() %}
create or replace function ops.is_cluster() returns boolean language sql stable as $$
    select to_regclass('pg_catalog.pg_dist_partition') is not null
$$;

-- Distributes a new table by a column. Colocates it with existing history (the tables that refuse changes) that is distributed by a column
-- of the same type, so that a customer's rows are on one node.
create or replace function ops.spread(relation regclass, spread_by text) returns void language plpgsql as $$
begin
    if ops.is_cluster() then
        -- a coordinator cannot analyze shards of its own that it wrote without a connection to itself
        perform set_config('citus.enable_local_execution', 'off', true);
        -- an array type has the first 63 characters of its name: those of shards with long names collide, and Citus waits for itself
        if (select length(relname) > 52 from pg_class where oid = relation) then
            perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
        end if;
        perform create_distributed_table(relation, spread_by, colocate_with => coalesce((
            select min(logicalrelid::text)
            from pg_dist_partition inner join pg_dist_colocation using (colocationid)
            where
                logicalrelid in (select tgrelid from pg_trigger where tgfoid = to_regprocedure('ops.refuse_change()'))
                and distributioncolumntype = (select atttypid from pg_attribute where attrelid = relation and attname = spread_by)
        ), 'default'));
    end if;
end
$$;

-- Samples a table for the planner. A coordinator that has read or written shards of its own in this transaction leaves that to autovacuum.
create or replace function ops.sample(relation regclass) returns void language plpgsql as $$
begin
    execute format('analyze %s', relation);
exception when internal_error then
    if not ops.is_cluster() then
        raise;
    end if;
end
$$;

-- Whether staging of a table has the rows that landed. A crash of the server empties unlogged tables, that of a node only its shards.
create or replace function ops.has_landed_rows(relation regclass, landed bigint) returns boolean language plpgsql stable strict as $$
declare
    result boolean;
begin
    if not ops.is_cluster() then
        return ops.has_rows(relation);
    end if;
    execute format('select count(*) >= %s from %s', landed, relation) into result;
    return result;
end
$$;

-- The workers that cannot be reached, or still hold prepared transactions.
create or replace function ops.pending_nodes() returns setof text language plpgsql as $$
begin
    if ops.is_cluster() then
        return query
        select nodename || ':' || nodeport
        from run_command_on_workers($pending$
            select count(*) from pg_prepared_xacts where database = current_database() and gid like 'citus\_%'
        $pending$)
        where not success or result <> '0';
    end if;
end
$$;

-- A worker that failed during a commit lacks rows that other workers have, without an error, until Citus has recovered the transaction.
-- A step that reads rows to write others waits about a second for the recovery, then fails.
create or replace function ops.require_settled_cluster() returns void language plpgsql as $$
declare
    nodes text;
begin
    for attempt in 1 .. 10 loop
        nodes := (select string_agg(node, ', ') from ops.pending_nodes() as node);
        if nodes is null then
            return;
        end if;
        perform pg_sleep(0.1);
    end loop;
    raise exception '% cannot be reached, or has yet to finish a commit that its failure interrupted', nodes
        using hint = 'When it is back, Citus finishes that within citus.recover_2pc_interval. Then ingest the month again.';
end
$$;

-- Nodes commit one after the other, so a reader could see some nodes before and some after the commit: readers wait for these milliseconds.
create or replace function ops.hide_until_committed(relation regclass) returns void language plpgsql as $$
begin
    if ops.is_cluster() then
        perform ops.lock_out_readers(relation::text, 'production is being read by another session for too long, and nothing was published');
    end if;
end
$$;
{% endmacro %}
