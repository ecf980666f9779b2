{% for table_name in declared_tables() %}
    {% set table = report_table(table_name) %}
    select
        months.as_of,
        '{{ table_name }}' as table_name,
        cells.column_name,
        cells.data_type,
        count(*) as delivered_rows,
        count(*) - count(cells.filled) as null_rows,
        avg(cells.number) as mean,
        percentile_cont(array[0.05, 0.25, 0.5, 0.75, 0.95]) within group (order by cells.number) as quantiles
    from {{ ref('published_months') }} as months
    inner join {{ table.history }} as snapshots on months.as_of = snapshots.as_of
    cross join
        lateral (
            values
            {% for column in table.all %}
        ('{{ column.name }}', '{{ column.data_type }}', {{ report_number('snapshots', column) }}, case when snapshots.{{ column.quoted }} is not null then 1 end){{ ',' if not loop.last }}
        {% else %}
                ('', '', null::double precision, null::int)
            {% endfor %}
        ) as cells (column_name, data_type, number, filled)
    where snapshots.observed_as_of = snapshots.as_of
    group by months.as_of, cells.column_name, cells.data_type
    {% if not loop.last %}union all{% endif %}
{% endfor %}
