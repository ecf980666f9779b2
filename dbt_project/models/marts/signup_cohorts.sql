with newest as (
    select max(observed_as_of) as as_of
    from {{ ref('users') }}
),

customers as (
    select
        date_trunc('month', users.signup_date)::date as signup_month,
        users.observed_as_of = newest.as_of as is_delivered
    from {{ ref('users') }} as users
    cross join newest
)

select
    signup_month,
    count(*) as customers,
    count(*) filter (where is_delivered) as still_delivered
from customers
group by signup_month
