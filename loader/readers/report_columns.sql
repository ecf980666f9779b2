-- name: profile
-- What one date delivered, in one scan of its partition. A quantile sorts the values of its column, not whole rows.
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
-- The rows that two dates delivered, counted in the same bins, in one scan of both partitions. Numbers have bins 1 to 10: bin d is
-- above decile d - 1 of the older values and up to decile d. A category has its own bin if it is among the twenty most frequent, and
-- more than one row of a date has it, so that no single customer's text shows. Bin 21 is all other categories; bin null is no value.
with binned as (
    select
        as_of = {as_of} as is_now,
        {values}
    from {history}
    where as_of in ({as_of}, {previous}) and observed_as_of = as_of
    offset 0 -- makes a cluster collect the rows first: its nodes cannot compute grouping sets
),

counted as (
    select
        case {column_name} end as column_name,
        -- in each group, every column except the grouped one is null
        coalesce({numbers}) as bin,
        coalesce({categories})::text as category,
        count(*) filter (where not is_now) as rows_before,
        count(*) filter (where is_now) as rows_now
    from binned
    group by grouping sets ({sets})
),

ranked as (
    select
        *,
        row_number() over (
            partition by column_name
            order by category is null, rows_before + rows_now desc, category
        ) as place
    from counted
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
-- Ten minus the number of deciles that are at or above the value. The cuts are the nine deciles, negated, in ascending order.
10 - width_bucket(-({value}), {cuts}::double precision []);
