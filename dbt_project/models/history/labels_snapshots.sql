{% set as_of = streamflow.month_that_passed() %}
{% set earlier = streamflow.months_before('labels') %}

with delivered as not materialized (
    select
        user_id,
        churn_label,
        as_of,
        as_of as observed_as_of
    from {{ source('staging', 'labels') }}
    where as_of = {{ as_of }}
),

-- customers who are not in the delivery keep their newest earlier row
carried_forward as (
    select distinct on (user_id)
        user_id,
        churn_label,
        {{ as_of }} as as_of,
        observed_as_of
    from {{ this }} as known
    where
        as_of in ({{ earlier }})
        -- a date's deliveries are in its own partition; a carried-forward copy may predate a restatement of that date
        and (as_of = observed_as_of or observed_as_of not in ({{ earlier }}))
        and not exists (
            select 1
            from delivered
            where delivered.user_id = known.user_id
        )
    order by user_id asc, observed_as_of desc
)

select * from delivered
union all
select * from carried_forward
