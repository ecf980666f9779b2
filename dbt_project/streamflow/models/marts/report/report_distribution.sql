with numbers as (
    {{ report_counts_of_both_months('number') }}
),

placed as (
    select
        *,
        sum(rows_before) over (of_column order by number) - rows_before as rows_below,
        sum(rows_before) filter (where number is not null) over of_column as numbers_before,
        sum(rows_before) over of_column as all_before
    from numbers
    window of_column as (partition by as_of, previous_as_of, table_name, column_name)
),

-- a value is in decile d where fewer than d tenths of the older month's values, and not fewer than d - 1 tenths, are below it
deciles as (
    select
        *,
        case when number is not null then least(10, floor(10 * rows_below / nullif(numbers_before, 0))::int + 1) end as bin
    from placed
    where all_before > 0
),

number_bins as (
    select
        as_of,
        previous_as_of,
        table_name,
        column_name,
        bin,
        case when bin < 10 then max(number) filter (where rows_before > 0) end as upper_bound,
        sum(rows_before)::bigint as rows_before,
        sum(rows_now)::bigint as rows_now
    from deciles
    group by as_of, previous_as_of, table_name, column_name, bin
),

categories as (
    {{ report_counts_of_both_months('category') }}
),

ranked as (
    select
        *,
        case
            when category is not null then least(
                21,
                row_number() over (
                    partition by as_of, previous_as_of, table_name, column_name
                    order by category is null, rows_before + rows_now desc, category
                )
            )
        end as bin
    from categories
)

select
    as_of,
    previous_as_of,
    table_name,
    column_name,
    bin,
    case
        when bin is not null
            then lag(upper_bound) over (partition by as_of, previous_as_of, table_name, column_name order by bin)
    end as lower_bound,
    upper_bound,
    null::text as category,
    rows_before,
    rows_now
from number_bins
union all
select
    as_of,
    previous_as_of,
    table_name,
    column_name,
    bin,
    null::double precision as lower_bound,
    null::double precision as upper_bound,
    case when bin <= 20 then max(category) end as category,
    sum(rows_before)::bigint as rows_before,
    sum(rows_now)::bigint as rows_now
from ranked
group by as_of, previous_as_of, table_name, column_name, bin
