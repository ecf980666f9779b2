-- name: wrong_values
-- what of these texts is not a value of that type, by PostgreSQL's own judgement; it takes more than the contract does
select text, info.sql_error_code
from
    json_array_elements_text(%(texts)s) as value (text),
    lateral pg_input_error_info(text, %(kind)s) as info
where
    info.message is not null
    or (%(kind)s::text = 'numeric' and text ~* 'nan|inf')
    or (%(kind)s::text = 'date' and text !~ '^\d{4}-\d{2}-\d{2}$');
