-- name: entries
-- Standing and replaced history as the ledger has it now, beside the last link about it; `wrong` says where the two differ.
-- Row grain: table, as_of and load. `event` is that of the last link, `events` those of all; null and empty before publication.
with told as (
    select distinct on (entry."table", entry.as_of, entry.load)
        entry."table" as table_name,
        entry.as_of,
        entry.load as load_id,
        entry.rows,
        entry.checksum,
        chain.tells ->> 'event' as event,
        array_agg(chain.tells ->> 'event') over (partition by entry."table", entry.as_of, entry.load) as events
    from ops.chain
    cross join lateral jsonb_to_recordset(chain.tells -> 'tables') as entry (
        "table" text, as_of date, load bigint, rows bigint, checksum numeric
    )
    order by 1, 2, 3, chain.link desc
),

ledger as (
    select 'history' as schema_name, history.* from ops.history as history
    union all
    select 'restated' as schema_name, kept.*
    from ops.restatements as restatements
    cross join lateral jsonb_populate_record(null::ops.history, restatements.replaced) as kept
)

select
    table_name,
    as_of,
    load_id,
    coalesce(told.rows, ledger.rows_total) as rows,
    ledger.schema_name,
    ledger.partition_name,
    ledger.checksum,
    ledger.checksum_columns as covered,
    case
        when ledger.schema_name is null then 'its entry in the ledger is gone'
        when num_nulls(ledger.partition_name, ledger.checksum, ledger.checksum_columns) > 0 then 'its entry in the ledger is not whole'
        when (told.rows, told.checksum) is distinct from (ledger.rows_total, ledger.checksum) and told.rows is not null
            then 'its entry in the ledger is not the one that was published'
        when told.rows is null and load_id in (select published.load_id from ops.published as published)
            then 'its entry in the ledger names a publication whose link in ops.chain does not list it'
    end as wrong,
    -- when a table was added to an archived month, version 0.2.0 entered the archived tables as published again
    case when archived.load_id is not null then 'archived' else told.event end as event,
    coalesce(told.events, '{}') as events,
    coalesce(archived.folder || '/' || archived.file, '') as file,
    archived.sha256
from told
full join ledger using (table_name, as_of, load_id)
left join ops.archived as archived using (table_name, as_of, load_id)
order by table_name, as_of, ledger.schema_name, load_id;

-- name: links
-- The chain: `wrong` says whether a link's number or hash is not right, or the publication that it records is gone.
select
    link,
    tells,
    sha256,
    case
        when link <> row_number() over by_number or sha256 is distinct from ops.link_sha256(lag(sha256) over by_number, tells)
            then 'was changed after it was written, or the link before it is gone'
        when tells ->> 'event' = 'published' and not exists (
            select from ops.published as published
            where
                published.load_id = (tells ->> 'load')::bigint
                and published.as_of = (tells ->> 'as_of')::date
                and published.month = tells ->> 'month'
        ) then 'tells of a publication that is gone from ops.published'
    end as wrong
from ops.chain
window by_number as (order by link)
order by link;
