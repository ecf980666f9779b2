-- name: begun
-- What there is of a date: attempts at it, whether staging holds one that is not published, whether its history is whole and not
-- published, and the tables of which history has something that is not whole.
select
    (select count(*) from ops.loads where as_of = %(as_of)s) as attempts,
    exists (
        select from ops.staged
        where as_of = %(as_of)s and load_id not in (select published.load_id from ops.published as published)
    ) as staged,
    exists (
        select from ops.complete_loads
        where as_of = %(as_of)s and load_id not in (select published.load_id from ops.published as published)
    ) as whole,
    array(
        select table_name from ops.history
        where
            as_of = %(as_of)s
            and load_id not in (select published.load_id from ops.published as published)
            and (table_name, as_of) not in (select standing.table_name, standing.as_of from ops.standing_history as standing)
        order by table_name
    ) as tables;
