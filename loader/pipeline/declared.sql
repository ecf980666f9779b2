-- name: columns
-- The columns of these tables of schema public, and their types.
select relation.name, attname::text, format_type(atttypid, atttypmod)
from unnest(%s::text []) as relation (name)
inner join pg_catalog.pg_attribute on attrelid = to_regclass(format('public.%%I', relation.name)) and attnum > 0 and not attisdropped
order by relation.name, attnum;
