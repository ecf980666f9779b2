{#- Readers see every month that all production tables have taken in. Row grain: missing as_of. -#}
{% test newest_month_is_there(model) %}
select complete.as_of
from {{ ref('complete_months') }} as complete
where complete.is_merged and complete.as_of not in (select seen.as_of from (select * from {{ model }}) as seen)
{% endtest %}
