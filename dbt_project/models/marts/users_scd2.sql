-- versions come from deliveries; those of an archived date are read from rows that later months carried forward, if these months were
-- built after the last restatement of that date
with written as (
    select
        history.as_of,
        history.load_id,
        published.archived_in
    from {{ source('ops', 'history') }} as history
    inner join {{ ref('published_months') }} as published on history.as_of = published.as_of
    where history.table_name = 'users'
),

deliveries as (
    select distinct on (snapshots.user_id, snapshots.observed_as_of)
        snapshots.*,
        row(
            snapshots.user_id,
            snapshots.signup_date,
            snapshots.user_gender,
            snapshots.user_is_senior,
            snapshots.has_family,
            snapshots.has_dependents
        ) as delivered
    from {{ ref('users_snapshots') }} as snapshots
    inner join written on snapshots.as_of = written.as_of
    left join written as gone
        on
            snapshots.observed_as_of = gone.as_of
            and gone.archived_in is not null
            and written.load_id > gone.load_id
    where snapshots.observed_as_of = snapshots.as_of or gone.as_of is not null
    order by
        snapshots.user_id asc,
        snapshots.observed_as_of asc,
        (snapshots.as_of = snapshots.observed_as_of) desc,
        snapshots.as_of desc
),

versions as (
    select
        *,
        lag(delivered) over (partition by user_id order by observed_as_of) as delivered_before
    from deliveries
)

select
    user_id,
    signup_date,
    user_gender,
    user_is_senior,
    has_family,
    has_dependents,
    observed_as_of as valid_from,
    lead(observed_as_of) over by_date as valid_to,
    lead(observed_as_of) over by_date is null as is_current
from versions
where delivered is distinct from delivered_before
window by_date as (partition by user_id order by observed_as_of)
