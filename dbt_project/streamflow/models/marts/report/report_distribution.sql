-- depends_on: {{ ref('published_months') }}
{% set parts = [] %}
{% for table_name in declared_tables() %}
{% set table = report_table(table_name) %}
{% if table.number %}
{% set part %}
select
    as_of,
    previous_as_of,
    '{{ table_name }}' as table_name,
    column_name,
    bin,
    max(lower_bound) as lower_bound,
    max(upper_bound) as upper_bound,
    null::text as category,
    count(*) filter (where not is_new) as rows_before,
    count(*) filter (where is_new) as rows_now
from (
    select
        cells.as_of,
        cells.previous_as_of,
        cells.column_name,
        cells.is_new,
        bins.bin,
        deciles.bounds[bins.bin - 1] as lower_bound,
        deciles.bounds[bins.bin] as upper_bound
    from (
        {{ report_values(table, table.number, 'number') }}
    ) as cells
    inner join (
        select
            as_of,
            previous_as_of,
            column_name,
            percentile_disc(array[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) within group (order by value) as bounds
        from (
            {{ report_values(table, table.number, 'number') }}
        ) as cells
        where not is_new
        group by as_of, previous_as_of, column_name
    ) as deciles using (as_of, previous_as_of, column_name)
    cross join lateral (
        select
            case
                when cells.value is null then null
                {% for number in range(1, 10) %}
                when cells.value <= deciles.bounds[{{ number }}] then {{ number }}
                {% endfor %}
                else 10
            end as bin
    ) as bins
) as binned
group by as_of, previous_as_of, column_name, bin
{% endset %}
{% do parts.append(part) %}
{% endif %}
{% if table.category %}
{% set part %}
select
    as_of,
    previous_as_of,
    '{{ table_name }}' as table_name,
    column_name,
    bin,
    null::double precision as lower_bound,
    null::double precision as upper_bound,
    case when bin <= 20 then max(value) end as category,
    sum(rows_before)::bigint as rows_before,
    sum(rows_now)::bigint as rows_now
from (
    select
        *,
        case
            when value is not null then least(
                21,
                row_number() over (
                    partition by as_of, previous_as_of, column_name
                    order by value is null, rows_before + rows_now desc, value
                )
            )
        end as bin
    from (
        select
            as_of,
            previous_as_of,
            column_name,
            value,
            count(*) filter (where not is_new) as rows_before,
            count(*) filter (where is_new) as rows_now
        from (
            {{ report_values(table, table.category, 'category') }}
        ) as cells
        group by as_of, previous_as_of, column_name, value
    ) as counted
) as ranked
group by as_of, previous_as_of, column_name, bin
{% endset %}
{% do parts.append(part) %}
{% endif %}
{% endfor %}
{{ parts | join('\nunion all\n') if parts else 'select 1 as before_the_project_is_read' }}
