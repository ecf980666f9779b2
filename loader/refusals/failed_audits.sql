-- name: columns_with_nulls
-- Row grain: column of which too many values are missing, by the audit's own limit, and how many percent are.
select column_name, null_percent
from (
    {audit}
) as audit
where null_percent {limit}
order by column_name;

-- name: audit_on_rows
-- What an audit finds among some rows: its own SQL, which reads them in place of its table.
with {table} as (
    {rows}
)

select * from (
    {audit}
) as audit;

-- name: audit_goes_by_row
-- One row: whether the rows that fail alone are the whole failure. They are when they fail as often alone as together,
-- and when the audit passes without them.
select counted.alone > 0 and counted.alone = counted.together and not exists ({audit_of_the_rest}) as goes_by_row
from (
    select
        (select count(*) from {staging} as r cross join lateral ({audit_of_row}) as audit) as alone,
        (select count(*) from ({audit}) as audit) as together
) as counted;

-- name: rows_that_fail_alone
-- Row grain: row of the staging table on which, taken alone, the audit fails. In the order of the file.
select r."place in file", left({column}::text, {shown}) as value
from (select *, {place} as "place in file" from {staging}) as r
where exists ({audit_of_row})
order by r."place in file";

-- name: rows_that_pass_alone
-- Row grain: row of the staging table on which, taken alone, the audit passes.
{row} from {staging} as r where not exists ({audit_of_row});

-- name: rows_by_value
-- Row grain: row of the staging table with a value that the audit names, in the order of the file.
-- A row that fails only when it is taken twice is doubled: it comes with its number among those of the same value and
-- the place of the first, which is left out. Where the audit reads other tables too, its values are taken as they are.
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
