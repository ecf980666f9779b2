-- reads `latest`, where both tables show the same month; leaves out customers whom that month did not deliver
with customers as (
    select
        subscriptions.contract_type,
        subscriptions.monthly_fee,
        labels.churn_label
    from {{ ref('latest_subscriptions') }} as subscriptions
    inner join {{ ref('latest_labels') }} as labels on subscriptions.user_id = labels.user_id
    where labels.observed_as_of = labels.as_of
)

select
    contract_type,
    count(*) as customers,
    count(*) filter (where churn_label) as churned,
    round(avg(churn_label::int), 4) as churn_rate,
    sum(monthly_fee) as monthly_fees
from customers
group by contract_type
