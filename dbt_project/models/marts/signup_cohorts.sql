with customers as (
    select
        date_trunc('month', signup_date)::date as signup_month,
        observed_as_of
    from {{ ref('users') }}
),

newest as (
    select max(observed_as_of) as as_of
    from customers
)

select
    customers.signup_month,
    count(*) as customers,
    count(*) filter (where customers.observed_as_of = newest.as_of) as still_delivered
from customers
cross join newest
group by customers.signup_month
