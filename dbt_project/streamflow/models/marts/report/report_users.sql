{% for table_name in declared_tables() %}
    {% set table = report_table(table_name) %}
    {% set compared = 'older.' ~ table.key ~ ' is not null and newer.observed_as_of = newer.as_of' %}
    select
        compared.as_of,
        compared.previous_as_of,
        '{{ table_name }}' as table_name,
        compared.customers_known,
        compared.customers_delivered,
        compared.customers_new,
        compared.customers_departed,
        compared.customers_returned,
        compared.compared_rows,
        (
            select jsonb_object_agg(cells.column_name, cells.changed_rows)
            from
                (
                    values
                    {% for column in table.all %}
                    ('{{ column.name }}', compared.changed_{{ loop.index }}){{ ',' if not loop.last }}
                    {% else %}
                        ('', 0)
                    {% endfor %}
                ) as cells (column_name, changed_rows)
        ) as changed_rows
    from (
        select
            months.as_of,
            months.previous_as_of,
            {% for column in table.all %}
            count(*) filter (
                where {{ compared }} and newer.{{ column.quoted }} is distinct from older.{{ column.quoted }}
            ) as changed_{{ loop.index }},
            {% endfor %}
            count(*) as customers_known,
            count(*) filter (where newer.observed_as_of = newer.as_of) as customers_delivered,
            count(*) filter (where older.{{ table.key }} is null and newer.observed_as_of = newer.as_of) as customers_new,
            count(*) filter (where older.observed_as_of = older.as_of and newer.observed_as_of < newer.as_of) as customers_departed,
            count(*) filter (where older.observed_as_of < older.as_of and newer.observed_as_of = newer.as_of) as customers_returned,
            count(*) filter (where {{ compared }}) as compared_rows
        from {{ ref('published_months') }} as months
        inner join {{ table.history }} as newer on months.as_of = newer.as_of
        left join {{ table.history }} as older
            on months.previous_as_of = older.as_of and {{ table.same_row }}
        group by months.as_of, months.previous_as_of
    ) as compared
    {% if not loop.last %}union all{% endif %}
{% endfor %}
