-- Row grain: the last row of the staging table, and whether it has numbers and nothing else, as a line of totals.
select {place} as place, num_nonnulls({numbers}) > 0 and num_nonnulls({others}) = 0 as has_sums
from {staging}
order by place desc
limit 1
