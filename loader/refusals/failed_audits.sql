-- name: columns_with_nulls
-- Row grain: column with more missing values than the audit's limit allows, with their percentage.
select column_name, null_percent
from (
    {audit}
) as audit
where null_percent {limit}
order by column_name;

-- name: audit_on_rows
-- The audit's own SQL, reading the given rows in place of its table.
with {table} as (
    {rows}
)

select * from (
    {audit}
) as audit;

-- name: audit_goes_by_row
-- One row: whether the rows that fail alone are the whole failure. They are if they fail as often alone as together,
-- and if the audit passes without them.
select counted.alone > 0 and counted.alone = counted.together and not exists ({audit_of_the_rest}) as goes_by_row
from (
    select
        (select count(*) from {staging} as r cross join lateral ({audit_of_row}) as audit) as alone,
        (select count(*) from (
            {audit}
        ) as audit) as together
) as counted;

-- name: rows_that_fail_alone
-- Row grain: row of the staging table that fails the audit when it is tested alone, in file order.
select r."place in file", left({column}::text, {shown}) as value
from (select *, {place} as "place in file" from {staging}) as r
where exists ({audit_of_row})
order by r."place in file";

-- name: rows_that_pass_alone
-- Row grain: row of the staging table that passes the audit when it is tested alone.
{row} from {staging} as r where not exists ({audit_of_row});

-- name: rows_by_value
-- Row grain: row of the staging table that fails the audit and has a value that the audit returns, in file order.
-- A row that passes alone and fails when it is tested twice is a duplicate: it has a number among the rows of the same value,
-- and the place of the first of them, which is left out. If the audit reads other tables too, rows are not tested: all count.
with found as (
    select to_jsonb(row({fields})) as same
    from (
        {audit}
    ) as audit
),

named as (
    select same, row_number() over () as number
    from found
    group by same
),

delivered as (
    select *
    from (select *, {place} as "place in file" from {staging}) as {table}
    where (
        {where}
    )
),

suspects as (
    select r."place in file", left({column}::text, {shown}) as value, named.number as value_number, verdict.alone
    from delivered as r
    inner join named on named.same = to_jsonb(row({columns}))
    cross join lateral (
        select {fails_alone} as alone, {fails_twice} as twice
    ) as verdict
    where verdict.alone or verdict.twice
),

numbered as (
    select
        suspects.*,
        row_number() over twins as number,
        first_value("place in file") over twins as first,
        count(*) over () as row_count
    from suspects
    window twins as (partition by value_number order by "place in file")
)

select
    "place in file",
    value,
    alone,
    number,
    first,
    row_count,
    (select count(*) from found) as failures,
    (select count(*) from named) as named
from numbered
where alone or number > 1
order by "place in file";
