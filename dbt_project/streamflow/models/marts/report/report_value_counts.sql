-- depends_on: {{ ref('published_months') }}
{% set counts = [] %}
{% for table_name in declared_tables() %}
    {% set table = report_table(table_name) %}
    {% for column in table.all %}
{% set count %}
select
    as_of,
    '{{ table_name }}' as table_name,
    '{{ column.name }}' as column_name,
    '{{ column.data_type }}' as data_type,
    '{{ column.kind }}' as kind,
    {{ report_number(column) }} as number,
    {{ column.quoted ~ '::text' if column.kind == 'category' else 'null::text' }} as category,
    count(*) as delivered_rows
from {{ table.history }}
where observed_as_of = as_of
group by as_of, {{ column.quoted }}
{% endset %}
{% do counts.append(count) %}
{% endfor %}
{% endfor %}
with counted as (
    {{ counts | join('union all') if counts else "
    select
        null::date as as_of,
        null::text as table_name,
        null::text as column_name,
        null::text as data_type,
        null::text as kind,
        null::double precision as number,
        null::text as category,
        null::bigint as delivered_rows
    where false" }}
)

select counted.*
from counted
inner join {{ ref('published_months') }} as months on counted.as_of = months.as_of
