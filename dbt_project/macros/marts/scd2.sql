{#-
  The versions of each customer's row, SCD type 2: a new one where a delivery brought other values than the delivery before it.
  Row grain: user_id, valid_from. Only deliveries count, in the order of the dates that they speak for: what was carried
  forward is no news, and a month that arrives late or is restated takes the place that it would have had in time.
-#}
{% macro scd2_of(table_name) %}
    {%- set history = ref(table_name ~ '_snapshots') -%}
    {%- set columns = contract_columns(['valid_from', 'valid_to', 'is_current']) -%}
    {%- set key = adapter.quote(model.config.meta.key) if execute else '' -%}
with deliveries as (
    select
        {{ columns | join(',\n        ') }},
        as_of
    from {{ history }}
    where observed_as_of = as_of
),

compared as (
    select
        *,
        row_number() over by_date = 1
        or ({{ columns | join(', ') }}) is distinct from lag(({{ columns | join(', ') }})) over by_date as is_version
    from deliveries
    window by_date as (partition by {{ key }} order by as_of)
)

select
    {{ columns | join(',\n    ') }},
    as_of as valid_from,
    lead(as_of) over by_date as valid_to,
    lead(as_of) over by_date is null as is_current
from compared
where is_version
window by_date as (partition by {{ key }} order by as_of)
{% endmacro %}
