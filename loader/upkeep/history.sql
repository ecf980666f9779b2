-- name: enter_history
-- Rows inserted and updated are capped at the delivered rows that are left; both are null until production takes them in.
update ops.history
set
    rows_total = rows_total - %(fewer)s,
    rows_delivered = rows_delivered - %(fewer_delivered)s,
    rows_inserted = case when rows_inserted is not null then least(rows_inserted, rows_delivered - %(fewer_delivered)s) end,
    rows_updated = case when rows_inserted is not null then least(
        rows_updated, rows_delivered - %(fewer_delivered)s - least(rows_inserted, rows_delivered - %(fewer_delivered)s)
    ) end,
    checksum = %(checksum)s,
    checksum_columns = %(covered)s
where table_name = %(table)s and as_of = %(as_of)s and load_id = %(load)s;

-- name: enter_restated
update ops.restatements
set
    replaced = replaced || jsonb_build_object(
        'rows_total', (replaced ->> 'rows_total')::bigint - %(fewer)s,
        'rows_delivered', (replaced ->> 'rows_delivered')::bigint - %(fewer_delivered)s,
        'checksum', %(checksum)s::numeric,
        'checksum_columns', to_jsonb(%(covered)s::text [])
    )
where table_name = %(table)s and as_of = %(as_of)s and replaced_load_id = %(load)s;

-- name: tell
select ops.add_link(jsonb_build_object('at', clock_timestamp()) || %s::jsonb);
