-- depends_on: {{ ref('users') }}
with delivered as (
    select
        user_id,
        churn_label,
        observed_as_of
    from {{ ref('labels_snapshots') }}
    where {{ streamflow.newly_delivered('labels') }}
)

select * from delivered
