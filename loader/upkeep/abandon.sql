-- name: begun
-- What there is of a date: attempts at it, whether staging holds one that is not published, and the tables of which history does.
select
    (select count(*) from ops.loads where as_of = %(as_of)s) as attempts,
    exists (
        select from ops.staged
        where as_of = %(as_of)s and load_id not in (select published.load_id from ops.published as published)
    ) as staged,
    array(
        select table_name from ops.history
        where as_of = %(as_of)s and load_id not in (select published.load_id from ops.published as published)
        order by table_name
    ) as tables;

-- name: lags
-- Whether production is to be made anew, as it has taken in what history has no longer.
select exists (select from ops.history where merged_at is null and rows_inserted is not null);
