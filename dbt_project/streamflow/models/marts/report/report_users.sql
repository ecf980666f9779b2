{% for table_name in declared_tables() %}
    {% set history, table = ref(table_name ~ '_snapshots'), streamflow.staged(table_name) %}
    {% set key = streamflow.quoted(table.config.meta.primary_key) %}
    {% set columns = streamflow.quoted(table.columns) | reject('in', key) | list %}
    {% set compared = 'older.' ~ key[0] ~ ' is not null and newer.observed_as_of = newer.as_of' %}
    select
        months.as_of,
        months.previous_as_of,
        '{{ table_name }}' as table_name,
        count(*) as customers_known,
        count(*) filter (where newer.observed_as_of = newer.as_of) as customers_delivered,
        count(*) filter (where older.{{ key[0] }} is null and newer.observed_as_of = newer.as_of) as customers_new,
        -- a month that arrived late or was restated since may have delivered customers whom the newer history does not know
        coalesce(max(known.rows_delivered), 0) - count(*) filter (
            where older.observed_as_of = older.as_of and newer.observed_as_of = newer.as_of
        ) as customers_departed,
        count(*) filter (where older.observed_as_of < older.as_of and newer.observed_as_of = newer.as_of) as customers_returned,
        count(*) filter (where {{ compared }}) as compared_rows,
        '{}'::jsonb
        {% for fifty in columns | batch(50) %}
        || jsonb_build_object(
            {% for column in fifty %}
            '{{ column | replace('"', '') }}', count(*) filter (
                where {{ compared }} and newer.{{ column }} is distinct from older.{{ column }}
            ){{ ',' if not loop.last }}
            {% endfor %}
        )
        {% endfor %} as changed_rows
    from {{ ref('published_months') }} as months
    inner join {{ history }} as newer on months.as_of = newer.as_of
    left join {{ history }} as older
        on months.previous_as_of = older.as_of and {{ streamflow.same_row('newer', 'older', key) }}
    left join {{ source('ops', 'history') }} as known
        on known.table_name = '{{ table_name }}' and months.previous_as_of = known.as_of
    group by months.as_of, months.previous_as_of
    {% if not loop.last %}union all{% endif %}
{% endfor %}
