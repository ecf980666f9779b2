{{ config(alias='labels') }}

select *
from {{ ref('labels_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
