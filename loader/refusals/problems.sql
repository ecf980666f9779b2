-- name: rows_that_differ
-- One row of counts. Both sides have the same columns. Of delivered rows with the same key, all but one count as differing.
with delivered as (
    select
        {columns},
        row_number() over (partition by {key}) > 1 as is_double
    from {staging}
),

published as (
    select
        {published},
        false as is_double
    from {history}
    where as_of = {as_of} and observed_as_of = {as_of}
)

select
    count(*) filter (where delivered.* is distinct from published.*) as differing,
    count(delivered.{first}) filter (where published.{first} is not null) as known,
    count(published.{first}) as published
from delivered
full join published using ({key});
