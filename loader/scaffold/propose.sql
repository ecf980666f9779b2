-- name: table
create temporary table {table} ({columns});

-- name: copy
copy {table} from stdin (format csv, header true, delimiter {delimiter}, encoding {encoding}, force_null ({names}));

-- name: last
select * from {table} where ctid = (select max(ctid) from {table});

-- name: without_last
delete from {table} where ctid = (select max(ctid) from {table});

-- name: column
-- What the values of one column are, as PostgreSQL parses them; but 007 is no number, 1 is no boolean, and a date must be YYYY-MM-DD.
with typed as (
    select
        {column} as value,
        {column} !~* '^[+-]?0[0-9]|[_xob]' and pg_input_is_valid({column}, 'integer') as is_int,
        {column} !~* '^[+-]?0[0-9]|[_xob]' and pg_input_is_valid({column}, 'bigint') as is_bigint,
        {column} !~* '^[+-]?0[0-9]|nan|inf|[_xob]' and pg_input_is_valid({column}, 'numeric') as is_numeric,
        {column} ~ '^\d{{4}}-\d{{2}}-\d{{2}}$' and pg_input_is_valid({column}, 'date') as is_date,
        {column} !~ '[0-9]' and pg_input_is_valid({column}, 'boolean') as is_boolean
    from {table}
    where {column} is not null
)

select
    count(*) as filled,
    count(distinct value) as different,
    case
        when count(*) = 0 then 'text'
        when bool_and(is_int) then 'int'
        when bool_and(is_bigint) then 'bigint'
        when bool_and(value ~ '^[0-9]+$') then 'text'  -- leading zeros, or too long for bigint: no quantity, but an identifier
        when bool_and(is_numeric) then 'numeric'
        when bool_and(is_date) then 'date'
        -- a column with only NO may be of countries
        when bool_and(is_boolean) and (count(distinct lower(value)) > 1 or bool_and(value ~* '^(true|false|yes)$')) then 'boolean'
        else 'text'
    end as data_type,
    coalesce(bool_or(is_numeric and ltrim(value) like '-%%'), false) as has_negative,
    (
        select array_agg(few.value order by few.value) from (select distinct {column} as value from {table} where {column} is not null limit 13) as few
        having count(*) <= 12
    ) as few_values,
    (select array_agg(beginning.value) from (select typed.value from typed limit 100) as beginning) as sample,
    count(*) filter (where is_numeric) as numbers,
    case
        when not bool_or(value ~ '^[+-]?0[0-9]')
            then (select array_agg(left(odd.value, 40) order by odd.value) from (select distinct typed.value from typed where not is_numeric limit 4) as odd)
    end as no_numbers,
    count(*) filter (where is_date) as dates,
    (select array_agg(left(odd.value, 40) order by odd.value) from (select distinct typed.value from typed where not is_date limit 4) as odd) as no_dates
from typed;

-- name: unique
select count(*) = count(distinct ({columns})) from {table};
