-- depends_on: {{ ref('users') }}
with delivered as (
    select
        user_id,
        churn_label,
        observed_as_of
    from {{ ref('labels_snapshots') }}
    where
        as_of in ({{ months_to_take_in('labels') }})
        and observed_as_of = as_of
)

select * from delivered
