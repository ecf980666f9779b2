with placed as (
    select
        *,
        sum(delivered_rows) over (of_column order by number) as rows_up_to,
        sum(delivered_rows) filter (where number is not null) over of_column as number_rows
    from {{ ref('report_value_counts') }}
    window of_column as (partition by as_of, table_name, column_name, data_type)
)

select
    as_of,
    table_name,
    column_name,
    data_type,
    sum(delivered_rows)::bigint as delivered_rows,
    coalesce(sum(delivered_rows) filter (where number is null and category is null), 0)::bigint as null_rows,
    sum(number * delivered_rows) / max(number_rows) as mean,
    case
        when max(number_rows) is not null
            then array[
                {% for share in ('0.05', '0.25', '0.5', '0.75', '0.95') %}
                    {{ report_quantile(share) }}{{ ',' if not loop.last }}
                {% endfor %}
            ]
    end as quantiles
from placed
group by as_of, table_name, column_name, data_type
