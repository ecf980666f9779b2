-- One row: whether the rows that fail alone are the whole failure. They are when they fail as often alone as together,
-- and when the audit passes without them.
select counted.alone > 0 and counted.alone = counted.together and not exists ({audit_of_the_rest}) as goes_by_row
from (
    select
        (select count(*) from {staging} as r cross join lateral ({audit_of_row}) as audit) as alone,
        (select count(*) from ({audit}) as audit) as together
) as counted
