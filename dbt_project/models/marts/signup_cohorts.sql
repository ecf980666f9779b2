-- reads `latest`, which shows a month once it is published; production takes it in a little earlier
with customers as (
    select
        date_trunc('month', signup_date)::date as signup_month,
        observed_as_of = as_of as is_delivered
    from {{ ref('latest_users') }}
)

select
    signup_month,
    count(*) as customers,
    count(*) filter (where is_delivered) as still_delivered
from customers
group by signup_month
