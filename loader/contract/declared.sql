-- name: columns
-- The columns of these tables of a schema, and their types.
select relation.name, attname::text, format_type(atttypid, atttypmod)
from unnest(%(relations)s::text []) as relation (name)
inner join pg_catalog.pg_attribute
    on attrelid = to_regclass(format('%%I.%%I', %(schema)s::text, relation.name)) and attnum > 0 and not attisdropped
order by relation.name, attnum;

-- name: keys
-- The primary keys of the history of these tables, without as_of.
select declared.name, array_agg(attname::text order by part.place) filter (where attname <> 'as_of')
from unnest(%s::text []) as declared (name)
inner join pg_catalog.pg_index on indrelid = to_regclass(format('public.%%I', declared.name || '_snapshots')) and indisprimary
cross join unnest(indkey) with ordinality as part (number, place)
inner join pg_catalog.pg_attribute on attrelid = indrelid and attnum = part.number
group by declared.name;

-- name: brought
-- Table -> the columns that months have brought, by the ledger.
select table_name, array_agg(distinct brought.name)
from ops.history
cross join unnest(checksum_columns) as brought (name)
group by table_name;
