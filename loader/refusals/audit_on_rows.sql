-- What an audit finds among some rows: its own SQL, which reads them in place of its table.
with {table} as (
    {rows}
)

select * from (
    {audit}
) as audit
