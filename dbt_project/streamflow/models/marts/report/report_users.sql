{% for table_name in declared_tables() %}
    {% set table = report_table(table_name) %}
    select
        months.as_of,
        months.previous_as_of,
        '{{ table_name }}' as table_name,
        count(*) as customers_known,
        count(*) filter (where newer.observed_as_of = newer.as_of) as customers_delivered,
        count(*) filter (where older.{{ table.key }} is null and newer.observed_as_of = newer.as_of) as customers_new,
        count(*) filter (where older.observed_as_of = older.as_of and newer.observed_as_of < newer.as_of) as customers_departed,
        count(*) filter (where older.observed_as_of < older.as_of and newer.observed_as_of = newer.as_of) as customers_returned
    from {{ ref('published_months') }} as months
    inner join {{ table.history }} as newer on months.as_of = newer.as_of
    left join {{ table.history }} as older
        on months.previous_as_of = older.as_of and {{ table.same_row }}
    group by months.as_of, months.previous_as_of
    {% if not loop.last %}union all{% endif %}
{% endfor %}
