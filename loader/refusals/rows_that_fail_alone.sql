-- Row grain: row of the staging table on which, taken alone, the audit fails. In the order of the file.
select r."place in file", left({column}::text, {shown}) as value
from (select *, {place} as "place in file" from {staging}) as r
where exists ({audit_of_row})
order by r."place in file"
