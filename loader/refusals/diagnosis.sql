-- name: wrong_values
-- Row grain: type and text of a value that would not land, with its error code if there is one. PostgreSQL's own functions accept more
-- than the contract and the check constraints of staging do, so the rules of these are added.
select value.kind, value.text, coalesce(info.sql_error_code, beyond.code)
from (select each ->> 0 as kind, each ->> 1 as text from json_array_elements(%s) as each) as value
cross join lateral pg_input_error_info(value.text, value.kind) as info
cross join lateral (
    select
        case
            when info.message is null and value.kind = 'numeric' and value.text !~* 'nan|inf'
                then
                    case when abs(value.text::numeric) >= 1e100 or scale(value.text::numeric) > 300 then '22003' end
        end as code
) as beyond
where
    info.message is not null
    or beyond.code is not null
    or (value.kind = 'numeric' and value.text ~* 'nan|inf')
    or (value.kind = 'date' and value.text !~ '^\d{4}-\d{2}-\d{2}$')
    or (value.kind not in ('text', 'boolean', 'date') and value.text ~* '[_xob]');
