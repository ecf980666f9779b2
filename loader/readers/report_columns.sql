-- name: profile
-- What one date delivered, in one reading of its partition: a quantile of each column sorts its values and no rows.
select
    count(*) as delivered_rows,
    {columns}
from {history}
where as_of = {as_of} and observed_as_of = {as_of};

-- name: number_profile
jsonb_build_object(
    'null_rows', count(*) - count({value}),
    'mean', avg({value}),
    'quantiles', percentile_cont({quantiles}::double precision []) within group (order by {value}),
    'deciles', percentile_disc({deciles}::double precision []) within group (order by {value})
);

-- name: category_profile
jsonb_build_object('null_rows', count(*) - count({column}), 'mean', avg({value}), 'quantiles', null, 'deciles', null);

-- name: bins
-- The rows that two dates delivered, counted in the same bins, in one reading of both partitions. A number is in decile d where
-- fewer than d tenths of the older values, and not fewer than d - 1 tenths, are below it. A category is a bin of its own if it is
-- among the twenty most frequent and no customer's alone; bin 21 is all others, and null is no value.
with binned as (
    select
        as_of = {as_of} as is_now,
        {values}
    from {history}
    where as_of in ({as_of}, {previous}) and observed_as_of = as_of
    offset 0 -- so that a cluster collects the rows: its nodes do not count in sets
),

counted as (
    select
        is_now,
        case {column_name} end as column_name,
        -- null is the value of each column but the one that a group is of
        coalesce({numbers}) as bin,
        coalesce({categories})::text as category,
        count(*) as delivered_rows
    from binned
    group by grouping sets ({sets})
),

both_months as (
    select
        column_name,
        bin,
        category,
        coalesce(sum(delivered_rows) filter (where not is_now), 0) as rows_before,
        coalesce(sum(delivered_rows) filter (where is_now), 0) as rows_now
    from counted
    group by column_name, bin, category
),

ranked as (
    select
        *,
        row_number() over (
            partition by column_name
            order by category is null, rows_before + rows_now desc, category
        ) as place
    from both_months
),

numbered as (
    select
        column_name,
        coalesce(
            bin,
            case
                when category is null then null
                when greatest(rows_before, rows_now) > 1 then least(21, place)
                else 21
            end
        ) as bin,
        category,
        rows_before,
        rows_now
    from ranked
)

select
    column_name,
    bin,
    case when bin <= 20 then max(category) end as category,
    sum(rows_before)::bigint as rows_before,
    sum(rows_now)::bigint as rows_now
from numbered
group by column_name, bin
order by column_name, bin;

-- name: decile
-- Ten without those whose upper bound is not below the value.
10 - width_bucket(-({value}), {cuts}::double precision []);
