{{ config(alias='users') }}

select
    user_id,
    signup_date,
    user_gender,
    user_is_senior,
    has_family,
    has_dependents,
    as_of,
    observed_as_of
from {{ ref('users_snapshots') }}
where as_of = (select max(published.as_of) from {{ ref('published_months') }} as published)
