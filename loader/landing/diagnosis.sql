-- name: wrong_values
-- What of these texts is not a value of that type: by PostgreSQL's own judgement, which takes more than the contract does, and by
-- what staging takes of it.
select text, coalesce(info.sql_error_code, beyond.code)
from
    json_array_elements_text(%(texts)s) as value (text),
    lateral pg_input_error_info(text, %(kind)s) as info,
    lateral (
        select
            case
                when info.message is null and %(kind)s::text = 'numeric' and text !~* 'nan|inf'
                    then case when abs(text::numeric) >= 1e100 or scale(text::numeric) > 300 then '22003' end
            end as code
    ) as beyond
where
    info.message is not null
    or beyond.code is not null
    or (%(kind)s::text = 'numeric' and text ~* 'nan|inf')
    or (%(kind)s::text = 'date' and text !~ '^\d{4}-\d{2}-\d{2}$');
