-- name: begun
-- One row about a date: the number of attempts, whether the last of them was cut off or failed without publishing, whether staging
-- holds an unpublished load, the tables with unpublished history, and the later dates that were built on that history.
with published as (select coalesce(max(load_id), 0) as load_id from ops.published where as_of = %(as_of)s)

select
    (select count(*) from ops.loads where as_of = %(as_of)s) as attempts,
    (
        select
            command <> 'check'
            and state in ('running', 'interrupted', 'failed')
            and load_id not in (select published.load_id from ops.published as published)
        from ops.loads
        where as_of = %(as_of)s
        order by load_id desc
        limit 1
    ) as cut_off,
    exists (
        select from ops.staged
        where as_of = %(as_of)s and load_id not in (select published.load_id from ops.published as published)
    ) as staged,
    array(
        select table_name from ops.history
        where as_of = %(as_of)s and load_id > (select published.load_id from published)
        order by table_name
    ) as tables,
    array(
        select distinct later.as_of::text
        from (
            select table_name, as_of, load_id, built_at from ops.standing_history
            union all
            select table_name, as_of, replaced_load_id, (replaced ->> 'built_at')::timestamptz from ops.restatements
        ) as given_up
        inner join ops.history as later
            on given_up.table_name = later.table_name and given_up.as_of < later.as_of and given_up.built_at < later.built_at
        where
            given_up.as_of = %(as_of)s
            and given_up.load_id > (select published.load_id from published)
        order by 1
    ) as built_upon;

-- name: lags
-- Whether production must be rebuilt, because it took in rows that history no longer has.
select exists (select from ops.history where merged_at is null and rows_inserted is not null);
