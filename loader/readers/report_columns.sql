-- name: profile
-- What one date delivered in a column; there are quantiles of numbers only.
select
    count(*) as delivered_rows,
    count(*) - count({column}) as null_rows,
    (count(*) - count({column})) / nullif(count(*), 0)::double precision as null_share,
    avg({number}) as mean,
    percentile_cont(array[0.05, 0.25, 0.5, 0.75, 0.95]) within group (order by {binned}) as quantiles,
    percentile_disc(array[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) within group (order by {binned}) as deciles
from {history}
where as_of = {as_of} and observed_as_of = {as_of};

-- name: bins
-- The rows that two dates delivered, counted in the same bins, each of which is above `lower_bound` and reaches to `upper_bound`.
-- A number is in decile d where fewer than d tenths of the older values, and not fewer than d - 1 tenths, are below it. A category
-- is a bin of its own if it is among the twenty most frequent and no customer's alone; bin 21 is all others, and null is no value.
with counted as (
    select
        {category} as category,
        -- ten without those whose upper bound is not below the number
        10 - width_bucket(
            -({binned}),
            array(select -decile from unnest({deciles}::double precision []) as decile order by 1)
        ) as decile,
        count(*) filter (where as_of = {previous}) as rows_before,
        count(*) filter (where as_of = {as_of}) as rows_now
    from {history}
    where as_of in ({as_of}, {previous}) and observed_as_of = as_of
    group by 1, 2
),

ranked as (
    select
        *,
        row_number() over (order by category is null, rows_before + rows_now desc, category) as place
    from counted
),

binned as (
    select
        case
            when category is null then decile
            when greatest(rows_before, rows_now) > 1 then least(21, place)
            else 21
        end as bin,
        category,
        rows_before,
        rows_now
    from ranked
)

select
    bin,
    case when bin <= 20 then max(category) end as category,
    sum(rows_before)::bigint as rows_before,
    sum(rows_now)::bigint as rows_now,
    case when bin is not null then lag(({deciles}::double precision [])[bin]) over (order by bin) end as lower_bound,
    ({deciles}::double precision [])[bin] as upper_bound
from binned
group by bin
order by bin;
