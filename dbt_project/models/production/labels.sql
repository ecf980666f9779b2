-- depends_on: {{ ref('users') }}
select
    user_id,
    churn_label,
    observed_as_of
from {{ ref('labels_snapshots') }}
where
    {{ streamflow.newly_delivered('labels') }}
