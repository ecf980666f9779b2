-- Row grain: column of which too many values are missing, by the audit's own limit, and how many percent are.
select column_name, null_percent
from (
    {audit}
) as audit
where null_percent {limit}
order by column_name
