-- depends_on: {{ ref('users') }}
with delivered as (
    select
        user_id,
        failed_payments_90d,
        observed_as_of
    from {{ ref('payments_agg_90d_snapshots') }}
    where
        as_of in ({{ months_to_take_in('payments_agg_90d') }})
        and {{ is_delivered('payments_agg_90d') }}
)

select * from delivered
