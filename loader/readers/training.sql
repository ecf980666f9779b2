-- name: columns
select attname, atttypid::regtype::text
from pg_catalog.pg_attribute
where attrelid = to_regclass('public.training_set') and attnum > 0 and attname not in ('as_of', 'label_as_of')
order by attnum;

-- name: rows
copy (
    select {columns} from public.training_set where as_of = {as_of} and label_as_of = {label_as_of}
) to stdout (format csv, header);
