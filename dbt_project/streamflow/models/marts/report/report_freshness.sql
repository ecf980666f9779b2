{% for table_name in declared_tables() %}
    select
        months.as_of,
        '{{ table_name }}' as table_name,
        snapshots.observed_as_of,
        count(*) as customers
    from {{ ref('published_months') }} as months
    inner join {{ ref(table_name ~ '_snapshots') }} as snapshots on months.as_of = snapshots.as_of
    group by months.as_of, snapshots.observed_as_of
    {% if not loop.last %}union all{% endif %}
{% endfor %}
