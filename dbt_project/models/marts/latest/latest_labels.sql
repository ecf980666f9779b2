{{ config(alias='labels') }}

select
    user_id,
    churn_label,
    as_of,
    observed_as_of
from {{ ref('labels_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
