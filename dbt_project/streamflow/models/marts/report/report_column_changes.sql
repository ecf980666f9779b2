{% for table_name in declared_tables() %}
    {% set table = report_table(table_name) %}
    select
        compared.as_of,
        compared.previous_as_of,
        '{{ table_name }}' as table_name,
        cells.column_name,
        compared.compared_rows,
        cells.changed_rows
    from (
        select
            months.as_of,
            months.previous_as_of,
            {% for column in table.all %}
            count(*) filter (where newer.{{ column.quoted }} is distinct from older.{{ column.quoted }}) as changed_{{ loop.index }},
            {% endfor %}
            count(*) as compared_rows
        from {{ ref('published_months') }} as months
        inner join {{ table.history }} as newer on months.as_of = newer.as_of
        inner join {{ table.history }} as older
            on months.previous_as_of = older.as_of and {{ table.same_row }}
        where newer.observed_as_of = newer.as_of
        group by months.as_of, months.previous_as_of
    ) as compared
    cross join
        lateral (
            values
            {% for column in table.all %}
        ('{{ column.name }}', compared.changed_{{ loop.index }}){{ ',' if not loop.last }}
        {% else %}
                ('', 0)
            {% endfor %}
        ) as cells (column_name, changed_rows)
    {% if not loop.last %}union all{% endif %}
{% endfor %}
