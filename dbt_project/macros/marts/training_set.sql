{#-
  Features as they were known on as_of, beside the label that was delivered on label_as_of, for every pair of published dates
  of which the label's is not the earlier. Row grain: as_of, label_as_of, user_id. With both dates given as constants, one
  partition of each table is read. Where the label's date did not deliver a customer, the label is null: one that was carried
  forward says nothing of that date.
-#}
{% macro training_set() %}
    {%- for table_name in declared_tables() -%}
        {%- do [ref(table_name ~ '_snapshots'), ref('published_months')] -%}
    {%- endfor -%}
    {%- if execute -%}
    {%- set meta = model.config.meta -%}
    {%- set everyone = meta.tables[0] %}
select
    {{ everyone.name }}.{{ adapter.quote(everyone.key) }},
    {{ everyone.name }}.as_of,
    label_dates.as_of as label_as_of,
    {{ everyone.name }}.as_of::timestamp as event_timestamp,
    {%- for column in model.columns.values() if column.config.meta.get('table') %}
    {{ column.config.meta.table }}.{{ adapter.quote(column.config.meta.column) }}
        {%- if column.config.meta.column != column.name %} as {{ adapter.quote(column.name) }}{% endif %}
        {{- ',' if not loop.last }}
    {%- endfor %}
from {{ ref(everyone.name ~ '_snapshots') }} as {{ everyone.name }}
inner join {{ ref('published_months') }} as feature_dates on {{ everyone.name }}.as_of = feature_dates.as_of
inner join {{ ref('published_months') }} as label_dates on {{ everyone.name }}.as_of <= label_dates.as_of
    {%- for table in meta.tables[1:] %}
left join {{ ref(table.name ~ '_snapshots') }} as {{ table.name }}
    on
        {{ everyone.name }}.{{ adapter.quote(everyone.key) }} = {{ table.name }}.{{ adapter.quote(table.key) }}
        {%- if table.get('label') %}
        and {{ table.name }}.as_of = label_dates.as_of
        and {{ table.name }}.observed_as_of = label_dates.as_of
        {%- else %}
        and {{ everyone.name }}.as_of = {{ table.name }}.as_of
        {%- endif %}
    {%- endfor %}
    {%- else %}
select 1 as known_when_run
    {%- endif %}
{% endmacro %}
