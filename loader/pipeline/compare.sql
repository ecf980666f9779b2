-- name: columns
select column_name from information_schema.columns where table_schema = 'public' and table_name = %s;

-- name: rows_that_differ
with delivered as (
    select {columns} from {staging}
),

published as (
    select {published} from {history} where as_of = {as_of} and observed_as_of = {as_of}
)

select
    count(*) filter (where delivered.* is distinct from published.*)
    + count(delivered.{key}) - count(distinct delivered.{key}) as differing,
    count(delivered.{key}) filter (where published.{key} is not null) as known,
    count(published.{key}) as published
from delivered
full join published on delivered.{key} = published.{key};
