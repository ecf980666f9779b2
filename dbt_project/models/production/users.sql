select
    user_id,
    signup_date,
    user_gender,
    user_is_senior,
    has_family,
    has_dependents,
    observed_as_of
from {{ ref('users_snapshots') }}
where
    {{ streamflow.newly_delivered('users') }}
